"""A page of the documents is filled by its own commands."""

from __future__ import annotations

from pathlib import Path
from subprocess import CalledProcessError

import pytest
from benchmarks.page_figures import ROOT, execute_here, expanded, fill_page

from mixcoder.experiments.file.spec import read_experiment
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
    done.clear()
    assert fill_page(PAGE, Path("here"), execute, "--pareto") == PAGE
    assert done == ["mixcoder plot x.yml --pareto params -o docs/images/x.svg"]


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


def test_the_drawing_is_of_the_network_of_the_file() -> None:
    model = read_experiment(ROOT / "experiments" / "small-and-powerful" / "50k.yml").runs[0].model[1]
    page = (ROOT / "docs" / "small-and-powerful.md").read_text(encoding="utf-8")
    width, decoder = model["encoder"][0]["channels"], model["decoder"][0]["channels"]
    code, count = model["code_channels"], model["decoder"][1]["repeat"]
    assert (
        f"channels 49 → {width} · kronecker · channels {width} → {width} · channels {width} → {code}" in page
    )
    word = {5: "five", 6: "six", 7: "seven", 8: "eight"}[count]
    block = f"(kronecker · channels {decoder} → {decoder})"
    assert f"channels {code} → {decoder} · {word} times {block} · channels {decoder} → 49" in page
    assert f"\n {model['refine']['steps']} times " in page
    assert f"`refine: {{steps: {model['refine']['steps']}}}`" in page
