"""The errors a user can cause: each says in one sentence what is wrong and what would be right."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from difflib import get_close_matches

from mixcoder.text.sanitize import sanitize, sanitize_columns


class MixcoderError(Exception):
    """Base of every error that is the user's to mend. `exit_status` is the command line's answer."""

    exit_status = 2


class MixcoderWarning(UserWarning):
    """Something is done in another way than one may expect; says why."""


class ArgumentError(MixcoderError, ValueError):
    """An argument of a model or of a data source is wrong.

    `argument` names it, so that an experiment file can point at its line.
    """

    def __init__(self, argument: str, message: str) -> None:
        super().__init__(f"{sanitize(argument)}: {message}" if argument else message)
        self.argument = argument
        self.message = message


_KNOWN_LETTERS = 500
"""Letters of all known words together that a message names."""
_SCRIPT_MARGIN = 60
"""Characters of a long script that are shown on each side of the one that is wrong."""


class ScriptError(ArgumentError):
    """A script of the script language is wrong; the message ends in a caret under the character."""

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
    """An experiment file is wrong: every problem of it, one a line."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


class DataError(MixcoderError):
    """Image data is missing, damaged or cannot be fetched."""


class CacheError(MixcoderError):
    """There is no place for the cache."""


class RunDirectoryError(MixcoderError):
    """A run directory is missing, incomplete or damaged."""


class RunLockedError(RunDirectoryError):
    """Another process is training this run."""

    exit_status = 3


class WriteError(MixcoderError):
    """A file cannot be written."""

    exit_status = 1


class ExportError(MixcoderError):
    """A model cannot be given to other programs."""

    exit_status = 1


class TrainingError(MixcoderError):
    """A training run cannot go on."""

    exit_status = 1


class RunInterruptedError(TrainingError):
    """A training run was told to end; it has not failed."""


_NO_MEMORY = ("alloc", "out of memory", "start new thread", "failed to map segment")
"""What libraries say, in words of their own: torch, CUDA, Python's threads, the loader of shared objects."""
_NO_MEMORY_FOR_CODE = "could not create a primitive"
"""What oneDNN says, and no more, where it has no memory for the code that it makes; of what it cannot compute
it says "could not create a primitive descriptor"."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether there was not the memory for something, whoever says so."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    said = str(error).lower()
    is_said = isinstance(error, RuntimeError | ImportError) and (
        said == _NO_MEMORY_FOR_CODE or any(words in said for words in _NO_MEMORY)
    )
    return is_said or isinstance(error, MemoryError)


def system_reason(error: OSError) -> str:
    """What the system says of a file, in lower case and without its name: permission denied, …"""
    return (error.strerror or str(error)).lower()


def describe_type(value: object) -> str:
    """Returns what a wrong argument is, for a message: its type, of a tensor or an array also its form.

    The elements of a tensor are never part of it.
    """
    name = "None" if value is None else type(value).__name__
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is None or dtype is None:
        return name
    return f"{name} {tuple(shape)} of {dtype}" if str(dtype) != name else f"numpy.{name}"


def first_line(error: Exception) -> str:
    """The first line of what an error of another library says, or else its type."""
    return str(error).strip().partition("\n")[0].strip() or type(error).__name__


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """What to add to "unknown …": the nearest known word, or all of them. Starts with "; "."""
    names = sorted(known)
    near = get_close_matches(word, names, n=1, cutoff=0.6)
    if near:
        return f"; did you mean '{sanitize(near[0], _KNOWN_LETTERS)}'?"
    return f"; known: {sanitize(', '.join(names), _KNOWN_LETTERS)}" if names else ""
