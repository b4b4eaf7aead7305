"""A page of the documents is filled by its own commands."""

from __future__ import annotations

from pathlib import Path
from subprocess import CalledProcessError

import pytest
from benchmarks.page_figures import execute_here, expanded, fill_page

from tests.conftest import slow

PAGE = """\
# A page

    mixcoder run x.yml
    mixcoder table x.yml --average seed

| old | row |
|---|---|
| 1 | 2 |

Text between.

    mixcoder plot x.yml --pareto params -o docs/images/x.svg

![A picture](images/x.svg)

    mixcoder plan x.yml
    mixcoder run x.yml

| this | is |
|---|---|

    python -m benchmarks.step_times x.yml -o times.json
    python -m benchmarks.step_times --show times.json

| this | is |
|---|---|
"""


def test_tables_are_those_of_the_commands_and_the_rest_stays() -> None:
    done: list[str] = []

    def execute(command: str, runs: Path) -> str:
        done.append(command)
        return f"| new | {runs} |\n|---|---|\n| 3 | 4 |\n"

    filled = fill_page(PAGE, Path("here"), execute)
    assert done == [
        "mixcoder table x.yml --average seed --format md",
        "mixcoder plot x.yml --pareto params -o docs/images/x.svg",
        "mixcoder plan x.yml --format md",
        "python -m benchmarks.step_times --show times.json",
    ]
    new = "| new | here |\n|---|---|\n| 3 | 4 |\n"
    expected = PAGE.replace("| old | row |\n|---|---|\n| 1 | 2 |\n", new)
    assert filled == expected.replace("| this | is |\n|---|---|\n", new)
    assert fill_page(filled, Path("here"), execute) == filled


def test_a_command_without_a_table_below_gets_one() -> None:
    filled = fill_page("    mixcoder table x.yml\n\nText.\n", Path(), lambda command, runs: "| a |\n|---|\n")
    assert filled == "    mixcoder table x.yml\n\n| a |\n|---|\n\nText.\n"


def test_patterns_are_those_of_a_shell() -> None:
    assert expanded("experiments/mnist/f*.yml") == ["experiments/mnist/first.yml"]
    assert expanded("--where=x*y") == ["--where=x*y"]
    assert expanded("README.md") == ["README.md"]


@slow
def test_a_command_that_fails_ends_it(tmp_path: Path) -> None:
    with pytest.raises(CalledProcessError, match="returned non-zero exit status 2"):
        execute_here("mixcoder table none.yml --format md", tmp_path)
    assert execute_here("mixcoder models ls --format md", tmp_path).startswith("| kind |")
