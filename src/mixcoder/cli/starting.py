"""The command that begins a plugin: mixcoder new."""

from __future__ import annotations

import keyword
import re
from enum import StrEnum
from pathlib import Path
from string import Template
from typing import Annotated, Any

import typer

from mixcoder.cli.output import print_text
from mixcoder.data import SOURCES
from mixcoder.errors import ArgumentError, WriteError, system_reason
from mixcoder.io.atomic_file import write_atomically
from mixcoder.models import MIXERS, MODELS
from mixcoder.registry.registry import Registry

_FILES = Path(__file__).with_name("starting_files")


class Kind(StrEnum):
    """A kind of part that a plugin can add."""

    mixer = "mixer"
    model = "model"
    source = "source"


_REGISTRIES: dict[Kind, Registry[Any]] = {Kind.mixer: MIXERS, Kind.model: MODELS, Kind.source: SOURCES}


def new(
    kind: Annotated[Kind, typer.Argument(help="mixer, model or source")],
    name: Annotated[str, typer.Argument(help="of the part, such as attention", metavar="NAME")],
    folder: Annotated[Path, typer.Argument(help="where to")] = Path(),
) -> None:
    """Write a starting file for a mixing layer, a model or a data source of your own, and a test of it."""
    _check_name(kind, name)
    names = {"name": name, "class": "".join(word.capitalize() for word in name.split("_"))}
    paths = {folder / f"{name}.py": f"{kind}.py.txt", folder / f"test_{name}.py": f"{kind}_test.py.txt"}
    for path in paths:
        if path.exists():
            raise ArgumentError("name", f"{path} is there already; take another name or folder")
    for path, template in paths.items():
        text = Template((_FILES / template).read_text(encoding="utf-8")).substitute(names)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WriteError(f"cannot write {folder}: {system_reason(error)}") from error
        write_atomically(path, text.encode())
        print_text(path)


def _check_name(kind: Kind, name: str) -> None:
    """Checks that a name can be that of a file of Python, and of a part that is new.

    Raises:
        ArgumentError: it cannot.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name) or len(name) > 50:
        raise ArgumentError("name", f"'{name}' must be small letters, digits and '_', such as my_{kind}")
    registry = _REGISTRIES[kind]
    if name in registry or name == "mixcoder":
        raise ArgumentError("name", f"there is a {registry.noun} '{name}' already; take another name")
