"""Commands that a listing names without importing their modules.

    use.py, train.py, … ─┬▶ parsed ───▶ names and docstrings ─────▶ mixcoder --help
                         └▶ imported ─▶ one command, its options ─▶ mixcoder run x.yml

To import torch alone takes seconds.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

HELP = {"help_option_names": ["-h", "--help"]}
"""Settings of every command."""

_SETTING = "A setting is a key: training.{0}={{0}}"
OPTIONS_ELSEWHERE = {
    "--resume": "A run that was interrupted goes on by itself",
    "--continue": "A run that was interrupted goes on by itself",
    "--dry-run": "mixcoder plan shows all runs and trains none",
    "--epochs": _SETTING.format("epochs"),
    "--lr": _SETTING.format("learning_rate"),
    "--learning-rate": _SETTING.format("learning_rate"),
    "--batch-size": _SETTING.format("batch_size"),
    "--inputs": _SETTING.format("inputs"),
    "--steps": _SETTING.format("steps"),
    "--seed": _SETTING.format("seed"),
    "--optimizer": _SETTING.format("optimizer"),
    "--config": "The experiment file stands alone: mixcoder run {0}",
    "--workers": "-j {0} trains so many runs side by side",
    "--multirun": "State a matrix in the experiment file; mixcoder run trains all of it",
}
"""Options that people know from other tools, and what does that here; {} is the value that they gave."""


class LazyCommand(TyperCommand):
    """A command with its name and help, whose options are known once its module is imported.

    Args:
        name: as a user types it, below its group.
        help: the docstring of its function.
        module: the module that holds the function.
        function: the name of the function.
    """

    def __init__(self, name: str, help: str, module: str, function: str) -> None:
        super().__init__(name, help=help)
        self._module = module
        self._function = function

    def load(self) -> Any:
        """Imports the module; returns the command with its options."""
        loaded = typer.Typer(add_completion=False)
        command = loaded.command(self.name, cls=HintingCommand, context_settings=HELP)
        command(getattr(import_module(self._module), self._function))
        return typer.main.get_command(loaded)


class HintingCommand(TyperCommand):
    """A command that says, of an option of other tools for training, what does that here."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Returns the arguments that are left once the options are parsed."""
        known = {name for parameter in self.params for name in parameter.opts}
        if "-j" not in known:  # it trains nothing
            return list(super().parse_args(ctx, args))
        for i, argument in enumerate(args):
            option, _, value = argument.partition("=")
            if option in OPTIONS_ELSEWHERE and option not in known:
                following = args[i + 1] if i + 1 < len(args) and not args[i + 1].startswith("-") else "…"
                ctx.fail(f"No such option: {option}. {OPTIONS_ELSEWHERE[option].format(value or following)}")
        return list(super().parse_args(ctx, args))


class LazyGroup(TyperGroup):
    """A group of commands, each imported when it is the one that a user names."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Returns the name of the command in `args`, the command, and the arguments that are left."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.load() if isinstance(command, LazyCommand) else command, rest


def add_commands(root: TyperGroup, modules: Iterable[str], groups: Mapping[str, str]) -> None:
    """Adds each public function of some modules to a group as a command: `models_ls` is `models ls`.

    Args:
        root: the group to add to.
        modules: modules beside this one, in the order of the help.
        groups: the groups below `root`, by name, with their help.
    """
    below = {
        name: LazyGroup(name=name, help=text, no_args_is_help=True, context_settings=HELP)
        for name, text in groups.items()
    }
    for module in modules:
        for function, docstring in _public_functions(Path(__file__).with_name(f"{module}.py")):
            first, _, rest = function.partition("_")
            group, name = (below[first], rest) if first in below else (root, function)
            group.add_command(LazyCommand(name, docstring, f"{__package__}.{module}", function))
    for group in below.values():
        root.add_command(group)


def _public_functions(path: Path) -> Iterator[tuple[str, str]]:
    """Returns the names and docstrings of a module's public functions, in their order in the file."""
    for statement in ast.parse(path.read_bytes()).body:
        if isinstance(statement, ast.FunctionDef) and not statement.name.startswith("_"):
            yield statement.name, ast.get_docstring(statement) or ""
