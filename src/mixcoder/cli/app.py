"""The command line: the table of commands, and what becomes of an error.

    mixcoder run x.yml ─▶ main ─▶ MODULES ─▶ train.run ─┬▶ exit status 0
                                                        └▶ error ─▶ one sentence, exit status 1, 2 or 3

Nothing heavy is imported here: `mixcoder --help` takes a fraction of a second.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Annotated, NoReturn

import typer

import mixcoder
from mixcoder.cli.lazy import HELP, LazyGroup, add_commands
from mixcoder.cli.streams import ignore_failures
from mixcoder.errors import MixcoderError, MixcoderWarning, ReportedError, is_out_of_memory
from mixcoder.io.interrupts import is_interrupted, noting_interrupts
from mixcoder.registry.plugins import load_plugin
from mixcoder.text.sanitize import sanitize, sanitize_lines

MODULES = ("use", "train", "results", "reports", "listings", "starting")
"""The modules of commands, in the order of `mixcoder --help`.

Each public function of such a module is a command, and its docstring the help: a new one is entered
nowhere else. The modules are imported when one of their commands is run.
"""
GROUPS = {
    "models": "The models and their layers.",
    "data": "The data sources: list, fetch, verify.",
    "experiments": "The experiments that come with Mixcoder.",
}
"""Groups of commands: `models_ls` is `mixcoder models ls`."""


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"mixcoder {mixcoder.__version__}")
        raise typer.Exit


def _set_main_options(
    context: typer.Context,
    plugin: Annotated[
        list[str] | None,
        typer.Option(help="Python file or module with your own mixing layers, models, data sources, loggers"),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """Options of every command; `context.obj` lists the plugins, for the workers of a sweep."""
    context.obj = plugin or []
    for name in context.obj:
        load_plugin(name)


def create_app() -> LazyGroup:
    """Returns the command line with every command of MODULES."""
    main_app = typer.Typer(
        name="mixcoder",
        cls=LazyGroup,
        help="Build, train and compare small image auto-encoders.",
        no_args_is_help=True,
        add_completion=False,
        context_settings=HELP,
    )
    main_app.callback()(_set_main_options)
    group = typer.main.get_group(main_app)
    assert isinstance(group, LazyGroup)
    add_commands(group, MODULES, GROUPS)
    return group


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the `mixcoder` command.

    Exits with 0 when done, 1 when a run failed, 2 when the input was wrong, 3 when another process trains it.
    """
    logging.getLogger("stamina").setLevel(logging.ERROR)  # a retry is no news; a failure is an error
    _open_closed_streams()
    _escape_unknown_characters()
    warnings.formatwarning = _format_warning
    with ignore_failures("stderr", OSError), noting_interrupts():
        try:
            create_app().main(args=arguments, prog_name="mixcoder")
        except ReportedError as error:
            sys.exit(error.exit_status)
        except MixcoderError as error:
            _exit_with(str(error), error.exit_status)
        except KeyboardInterrupt:
            _exit_with(_INTERRUPTED)
        except SystemExit as left:
            if left.code == _INTERRUPTED_STATUS:
                _exit_with(_INTERRUPTED)
            raise
        except BrokenPipeError:
            sys.stderr.close()
            sys.exit(1)
        except Exception as error:
            message = _INTERRUPTED if is_interrupted() else _environment_message(error)
            if message is None:
                raise
            _exit_with(message)


_INTERRUPTED = "interrupted"
_INTERRUPTED_STATUS = 130
"""The exit status with which typer ends after a Ctrl-C that reaches it, without a message."""


def _exit_with(message: str, status: int = 1) -> NoReturn:
    """Prints an error and ends the process."""
    print(sanitize_lines(f"error: {message}"), file=sys.stderr)
    sys.exit(status)


def _environment_message(error: Exception) -> str | None:
    """Returns the message for a failure of the environment, or None for a bug."""
    if is_out_of_memory(error):
        return "out of memory; this process must be allowed more of it"
    if isinstance(error, OSError):  # of the terminal, or the file that the output goes to
        place = f" ({error.filename})" if error.filename else ""
        return (error.strerror or str(error)).lower() + place
    return None


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Returns a warning as standard error shows it: one of ours is a sentence, without a line of code."""
    if issubclass(category, MixcoderWarning):
        return f"note: {sanitize(str(message), None)}\n"
    return _format_other_warning(message, category, filename, lineno, line)


_format_other_warning = warnings.formatwarning


def _open_closed_streams() -> None:
    """Opens the null device as output of a process that was started without one."""
    sys.stdout = sys.stdout or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    sys.stderr = sys.stderr or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")


def _escape_unknown_characters() -> None:
    """Lets an encoding that lacks a character, such as a terminal's Latin-1, show its escape instead."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
