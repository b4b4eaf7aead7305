"""The experiments that come with the package: the article's tables, to look at and to make one's own.

Each file opens with one line: `# expected: <result> · <time> · <command>`. Another one, the modeline, tells
editors where the JSON Schema of experiment files is; that of a copy names `experiment.schema.json` beside it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from mixcoder.errors import ArgumentError, did_you_mean
from mixcoder.experiments.file.extends import read_extended
from mixcoder.experiments.file.matrix import expand
from mixcoder.experiments.file.schema import schema_json
from mixcoder.experiments.file.yaml_file import read_document
from mixcoder.io.atomic_file import write_atomically

_PACKAGE = Path(__file__).parents[2]
_SCHEMA = "experiment.schema.json"
_MODELINE = re.compile(r"^(# yaml-language-server: \$schema=).*$", re.M)


def shipped_folder() -> Path:
    """Returns where the files are: in the package, or, in a checkout of the project, at its top."""
    checkout = _PACKAGE.parents[1]
    is_checkout = (checkout / "pyproject.toml").is_file()
    return checkout / "experiments" if is_checkout else _PACKAGE / "experiments" / "shipped"


def shipped_names() -> list[str]:
    """Returns the name of each file, such as `mnist/kernel-sizes`."""
    folder = shipped_folder()
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.glob("*/*.yml"))


def shipped_rows() -> list[dict[str, Any]]:
    """Returns one row a file: `name`, `runs` or `trials`, and what its first line says.

    That is `expected` and `time`.
    """
    return [_row(name) for name in shipped_names()]


def copy_shipped(name: str, folder: Path) -> list[Path]:
    """Copies a file, and those that it extends, into `folder`, with the JSON Schema for editors.

    A schema that is there already stays; it may know of plugins.

    Args:
        name: such as `mnist/kernel-sizes`, or its last part alone where that is clear.
        folder: made where it does not exist.

    Returns:
        What was written, the file asked for first.

    Raises:
        ArgumentError: there is no such file, or one of that name is in the folder already.
        WriteError: the folder cannot be written.
    """
    sources = _with_bases(_path(_full_name(name)))
    copies = [folder / source.name for source in sources]
    texts = [_MODELINE.sub(rf"\g<1>{_SCHEMA}", source.read_text(encoding="utf-8")) for source in sources]
    written = dict(zip(copies, texts, strict=True))
    for copy, text in written.items():
        if os.path.lexists(copy) and not _holds(copy, text):
            raise ArgumentError("folder", f"{copy} is there already; name another folder")
    if not os.path.lexists(folder / _SCHEMA):
        written[folder / _SCHEMA] = schema_json()
    for path, text in written.items():
        write_atomically(path, text.encode())
    return list(written)


def _holds(path: Path, text: str) -> bool:
    """Returns whether a file holds the text already, as after a copy that was interrupted."""
    return path.is_file() and path.read_bytes() == text.encode()


def _path(name: str) -> Path:
    return shipped_folder() / f"{name}.yml"


def _row(name: str) -> dict[str, Any]:
    path = _path(name)
    first_line = path.read_text(encoding="utf-8").partition("\n")[0]
    expected, time, _ = first_line.removeprefix("# expected: ").split(" · ")
    return {"name": name, **_counts(path), "expected": expected, "time": time}


def _counts(path: Path) -> dict[str, int | None]:
    """Returns how many runs a file states; of a search, whose results decide on the runs, how many trials."""
    document = read_extended(path)
    search = document.data.get("search")
    return {"runs": None if search else len(expand(document)), "trials": search["trials"] if search else None}


def _full_name(name: str) -> str:
    wanted, names = name.removesuffix(".yml"), shipped_names()
    found = [known for known in names if wanted in (known, known.rpartition("/")[2])]
    if len(found) != 1:
        raise ArgumentError("name", f"there is no experiment '{name}'{did_you_mean(wanted, names)}")
    return found[0]


def _with_bases(path: Path) -> list[Path]:
    """Returns the file and all files that it extends."""
    base = read_document(path).data.get("extends")
    return [path, *(_with_bases(path.parent / base) if base else [])]
