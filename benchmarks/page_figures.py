"""Fills a page of the documents from run directories: its tables, and the pictures that its commands write.

    python -m benchmarks.page_figures docs/small-and-powerful.md --runs runs
    python -m benchmarks.page_figures docs/small-and-powerful.md --runs runs --only ablations

    indented command of the page ─┬─ table, plan, step_times, refinement_steps: the table below is made anew
                                  └─ plot, reconstruct: the picture in docs/images is too

The commands on the page are those that run: a reader gets the same by the same command. A command whose runs
are not there ends the program before the page is written.
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from mixcoder.io.atomic_file import write_atomically

ROOT = Path(__file__).parents[1]
_TABLES, _PICTURES = ("table", "plan", "step_times --show", "refinement_steps"), ("plot", "reconstruct")
_WITH_RUNS = ("table", "plan", "plot")
Execute = Callable[[str, Path], str]
"""Runs a command line of Mixcoder with a folder of runs; returns what it prints."""


def fill_page(text: str, runs: Path, execute: Execute, word: str = "") -> str:
    """Returns a page with the tables of its commands; runs those that write pictures.

    Args:
        text: of the page.
        runs: the folder of all run directories.
        execute: runs a command.
        word: that commands hold; others, and their tables, are left as they are.
    """
    lines = text.splitlines()
    filled: list[str] = []
    while lines:
        line = lines.pop(0)
        filled.append(line)
        kind = _kind(line) if word in line else ""
        if kind in _PICTURES:
            execute(line.strip(), runs)
        elif kind in _TABLES:
            while lines and lines[0].startswith("    "):
                filled.append(lines.pop(0))
            option = " --format md" if kind in ("table", "plan") else ""
            table = execute(f"{line.strip()}{option}", runs).strip().splitlines()
            filled += ["", *table, ""]
            lines = _without_table(lines)
    return "\n".join(filled).rstrip("\n") + "\n"


def _kind(line: str) -> str:
    """Returns the command of an indented line; an empty text for any other line."""
    found = re.match(
        r"    (?:mixcoder (\w+) |python -m benchmarks\.(step_times --show|refinement_steps) )", line
    )
    return found[1] or found[2] if found else ""


def _without_table(lines: Sequence[str]) -> list[str]:
    """Returns the lines below a command without empty ones and the table that they begin with."""
    rest = list(lines)
    while rest and not rest[0].strip():
        rest.pop(0)
    while rest and rest[0].startswith("|"):
        rest.pop(0)
    while rest and not rest[0].strip():
        rest.pop(0)
    return rest


def execute_here(command: str, runs: Path) -> str:
    """Runs a command line with the Mixcoder of this environment, at the top of the project."""
    words = [name for word in shlex.split(command) for name in expanded(word)]
    options = ["--runs", str(runs.absolute())] if words[1] in _WITH_RUNS else []
    program = [] if words[0] == "python" else ["-m", "mixcoder"]
    line = [sys.executable, *program, *words[1:], *options]
    print(command, flush=True)
    return subprocess.run(line, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout


def expanded(word: str) -> list[str]:
    """Returns the files that a pattern names, as a shell does; any other word as it is."""
    found = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob(word)) if "*" in word else []
    return found or [word]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("page", type=Path, help="page of the documents")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all run directories")
    parser.add_argument("--only", default="", help="word of the commands to run; without, all")
    options = parser.parse_args()
    text = options.page.read_text(encoding="utf-8")
    filled = fill_page(text, options.runs, execute_here, options.only)
    write_atomically(options.page, filled.encode())


if __name__ == "__main__":
    main()
