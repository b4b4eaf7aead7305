"""Names with escapes, formulas, markup and bytes that are no text: of files in a folder, and in every table.

dice ─▶ draw ─▶ {files, cells} ─▶ read ─┬─▶ sentences, a list of what was left out, tables ─▶ check_sound
                                        └─▶ a sentence ───────────────────────────────────▶ check_refusal
"""

from __future__ import annotations

import csv
import json
import os
import shutil
from io import BytesIO, StringIO
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image
from rich.console import Console

from mixcoder.data import create_source
from mixcoder.errors import did_you_mean
from mixcoder.text.sanitize import sanitize
from mixcoder.text.table import Column, print_table, to_csv, to_json, to_markdown

Case = dict[str, Any]
"""{files: their names, one character a byte; cells: texts of a table}, as JSON has it."""

PIECES = [
    "\x1b[2J", "\x1b]8;;http://x\x07", "\x9b31m", "\x07", "\x08", "\r", "\n", "\t", "\0", "\x7f",
    "\x85", "\u2028", "\u202e", "\u200b", "\u2066", "\ufeff", "\u3164", "\ud800", "\udcff", "e\u0301",
    "é", "漢字", "🙂", "=1+1", "+1", "-1", "@SUM(A1)", "=cmd|' /C calc'!A0", "'", '"', "\"\"", ",", ";",
    "|", "\\", "`", "*_", "#", "[red]", "[/]", "[link=http://x]", "<script>", "</td>", "&amp;", "%s",
    "{}", "${seed}", "~", "..", "/", ".", " ", "", "a", "null", "nan", "1e5", "-3", "x" * 200,
    "漢" * 90,
]  # fmt: skip
BYTES = [b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xf0\x9f", b"\x80"]
SUFFIXES = [".png", ".PNG", ".jpg", ".png ", ".heic", ""]
FOLDER = Path("named")
_LONGEST_NAME = 255
_PICTURE = BytesIO()


def prepare() -> None:
    """Draws the picture that files hold, and keeps stores in the current folder."""
    Image.new("RGB", (9, 8), (200, 30, 3)).save(_PICTURE, "PNG")
    os.environ["XDG_CACHE_HOME"] = str(Path("cache").absolute())
    read({"files": ["a.png", "b.png"], "cells": [["a", "b"], ["c", "d"]]})


def draw(dice: Random) -> Case:
    """One to four names of files, and two rows of two cells."""
    return {
        "files": [_file_name(dice) for _ in range(dice.randint(1, 4))],
        "cells": [[_text(dice), _text(dice)] for _ in range(2)],
    }


def _text(dice: Random) -> str:
    return "".join(dice.choices(PIECES, k=dice.randint(1, 4)))


def _file_name(dice: Random) -> str:
    name = _text(dice).encode(errors="surrogatepass")
    if dice.random() < 0.3:
        name += dice.choice(BYTES)
    return name.decode("latin-1") + dice.choice(SUFFIXES)


def read(case: Case) -> dict[str, Any]:
    """All that is said of files with these names, and of these cells.

    Raises:
        MixcoderError: there is no image among the files; anything else is a mistake of ours.
    """
    shutil.rmtree(FOLDER, ignore_errors=True)
    shutil.rmtree("cache", ignore_errors=True)
    FOLDER.mkdir()
    for number, name in enumerate(case["files"]):
        _write(name.encode("latin-1"), number)
    rows = [dict(zip("ab", cells, strict=True)) for cells in case["cells"]]
    columns = [Column("a", "a"), Column("b", "b")]
    screen = StringIO()
    print_table(rows, columns, Console(file=screen, width=120))
    said = [did_you_mean(case["cells"][0][0], case["cells"][1]), sanitize(case["cells"][0][1])]
    return {
        "json": to_json(rows),
        "csv": to_csv(rows, columns),
        "md": to_markdown(rows, columns),
        "text": screen.getvalue(),
        "said": [*said, *_packed()],
    }


def _write(name: bytes, number: int) -> None:
    """Makes a file of that name, where a file can have it; every other one holds a picture."""
    usable = name.replace(b"/", b"").replace(b"\0", b"")[-_LONGEST_NAME:]
    if usable not in (b"", b".", b".."):
        Path(FOLDER, os.fsdecode(usable)).write_bytes(b"no picture" if number % 2 else _PICTURE.getvalue())


def _packed() -> list[str]:
    """What is said where the folder is packed, and the lines of the list of what was left out."""
    source = create_source("folder", path=str(FOLDER), crop_size=8)
    lines = [source.prepare(), source.status()]
    for path in Path("cache").rglob("*.csv"):
        lines += path.read_text(encoding="utf-8").split("\n")
    return lines


def check_sound(case: Case, value: dict[str, Any]) -> None:
    """Nothing is invisible, no cell is a formula, and each row is one row."""
    for text in (value["csv"], value["md"], value["text"], *value["said"]):
        assert all(line.isprintable() for line in text.split("\n")), text
    assert [list(row.values()) for row in json.loads(value["json"])] == [
        [cell if cell.isascii() else json.loads(json.dumps(cell)) for cell in cells]
        for cells in case["cells"]
    ]
    rows = list(csv.reader(StringIO(value["csv"])))
    assert len(rows) == 1 + len(case["cells"])
    for cell in (cell for row in rows for cell in row):
        assert not cell.lstrip().startswith(("=", "@")), cell


def check_refusal(case: Case, message: str) -> None:
    """Sentences that name the folder, or why none of its images can be used."""
    for line in message.split("\n"):
        assert line.isprintable(), line
        assert len(line) < 1000
