"""Errors that a user can cause: each says in one sentence what is wrong and what would be right."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from difflib import get_close_matches

from mixcoder.text.sanitize import sanitize, sanitize_columns


class MixcoderError(Exception):
    """An error that a user can mend; the command line ends with its `exit_status`."""

    exit_status = 2


class MixcoderWarning(UserWarning):
    """A warning that Mixcoder does something in another way than one may expect, and why."""


class ArgumentError(MixcoderError, ValueError):
    """An error in an argument of a function, a model or a data source.

    `argument` names the argument, so that an experiment file can point at the line.
    """

    def __init__(self, argument: str, message: str) -> None:
        super().__init__(f"{sanitize(argument)}: {message}" if argument else message)
        self.argument = argument
        self.message = message

    def below(self, key: str) -> ArgumentError:
        """Returns the error of the same argument, seen from where it is a key below `key`."""
        return ArgumentError(f"{key}.{self.argument}" if self.argument else key, self.message)


_KNOWN_LETTERS = 500
"""The most letters that a message spends on known words."""
_SCRIPT_MARGIN = 60
"""Characters of a long script that are shown on each side of the one that is wrong."""


class ScriptError(ArgumentError):
    """An error in a script of the script language; the message ends in a caret under the character."""

    def __init__(self, message: str, script: str, position: int) -> None:
        line_start = script.rfind("\n", 0, position) + 1
        line_end = script.find("\n", position)
        line = script[line_start : line_end if line_end >= 0 else len(script)]
        column = position - line_start
        if len(line) > 2 * _SCRIPT_MARGIN:
            cut = max(0, column - _SCRIPT_MARGIN)
            line, column = line[cut : column + _SCRIPT_MARGIN], column - cut
        caret = " " * column + "^"
        super().__init__("script", f"{message}\n  {sanitize_columns(line)}\n  {caret}")
        self.position = position


class ExperimentError(MixcoderError):
    """An error in an experiment file: every problem, one a line."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


class DataError(MixcoderError):
    """An error of image data that is missing, damaged or cannot be fetched."""


class CacheError(MixcoderError):
    """An error where there is no place for the cache."""


class ClusterError(MixcoderError):
    """An error of a cluster that is not there, or whose nodes cannot train."""


class RunDirectoryError(MixcoderError):
    """An error of a run directory that is missing, incomplete or damaged."""


class RunLockedError(RunDirectoryError):
    """An error where another process is training the run."""

    exit_status = 3


class WriteError(MixcoderError):
    """An error of a file that cannot be written."""

    exit_status = 1


class ExportError(MixcoderError):
    """An error of a model that cannot be exported."""

    exit_status = 1


class TrainingError(MixcoderError):
    """An error of a training run that cannot go on."""

    exit_status = 1


class DivergenceError(TrainingError):
    """An error of a training run whose loss is no longer finite."""


class RunInterruptedError(TrainingError):
    """An interruption of a training run, which has not failed."""


class PeerEndedError(RunInterruptedError):
    """An interruption of a training run by the end of another process that trains it."""


class ReportedError(MixcoderError):
    """An error that another process of the same run reports; this one ends with the same `exit_status`."""

    def __init__(self, exit_status: int) -> None:
        super().__init__("reported by another process")
        self.exit_status = exit_status


_NO_MEMORY = ("alloc", "out of memory", "start new thread", "failed to map segment")
"""Parts of messages of libraries: torch, CUDA, Python's threads, the loader of shared objects."""
_NO_MEMORY_FOR_CODE = "could not create a primitive"
"""The whole message of oneDNN where memory for its generated code is missing. An operation that oneDNN cannot
compute gives "could not create a primitive descriptor"."""


def is_out_of_memory(error: Exception) -> bool:
    """Returns whether an error of any library says that memory is missing."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    message = str(error).lower()
    is_known = isinstance(error, RuntimeError | ImportError) and (
        message == _NO_MEMORY_FOR_CODE or any(part in message for part in _NO_MEMORY)
    )
    return is_known or isinstance(error, MemoryError)


def system_reason(error: OSError) -> str:
    """Returns the system's message for a file, in lower case and without its name: permission denied, …"""
    return (error.strerror or str(error)).lower()


def describe_type(value: object) -> str:
    """Returns the type of a wrong argument, for a message; of a tensor or an array also shape and dtype.

    The message never holds the elements of a tensor.
    """
    name = "None" if value is None else type(value).__name__
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is None or dtype is None:
        return name
    return f"{name} {tuple(shape)} of {dtype}" if str(dtype) != name else f"numpy.{name}"


def first_line(error: Exception) -> str:
    """Returns the first line of the message of another library's error, or else its type."""
    return str(error).strip().partition("\n")[0].strip() or type(error).__name__


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns what to add to "unknown …": the nearest known word, or all of them. Starts with "; "."""
    names = sorted(known)
    by_letters = {name.lower(): name for name in names}
    near = get_close_matches(word.lower(), by_letters, n=1, cutoff=0.6)
    if near:
        return f"; did you mean '{sanitize(by_letters[near[0]], _KNOWN_LETTERS)}'?"
    return f"; known: {sanitize(', '.join(names), _KNOWN_LETTERS)}" if names else ""
