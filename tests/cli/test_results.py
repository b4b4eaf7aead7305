"""`mixcoder table`, as a user types it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from mixcoder.experiments.file.spec import read_experiment
from mixcoder.experiments.runs.run_directory import RunDirectory
from tests.conftest import Cli

SWEEP = """\
name: mine
data: {source: mnist}
model: {type: mixer, patch_size: 7, hidden_channels: [64, 64, 64, 16], latent_dim: 16, mixer_at: "${at}"}
training: {learning_rate: 0.003, inputs: 1_000_000, seed: "${seed}"}
matrix: {at: [[], [2, 3, 4]], seed: [0, 1]}
"""
LOSSES = (0.012, 0.011, 0.0104, 0.0106)


@pytest.fixture(autouse=True)
def _results(tmp_path: Path) -> None:
    """Finished runs, as far as a table can see."""
    (tmp_path / "x.yml").write_text(SWEEP)
    runs = read_experiment(tmp_path / "x.yml").runs
    for i, (run, loss) in enumerate(zip(runs, LOSSES, strict=True)):
        directory = RunDirectory.of(run, tmp_path / "runs")
        directory.write_config(run)
        figures = {"inputs": 1_000_000, "params": 33_617 + i, "train_minutes": 2.0, "throughput": 8_000.0 + i}
        directory.write_result({"validation_loss": loss, **figures})


def test_text(cli: Cli) -> None:
    before = sorted(Path().rglob("*"))
    status, out, err = cli("table", "x.yml")
    assert (status, err) == (0, "")
    heading, _, first, *_ = (line.split() for line in out.splitlines() if line.strip())
    assert heading[:4] == ["at", "seed", "validation", "loss"]
    assert first == ["none", "0", "0.0120000", "1,000,000", "33,617", "2.00", "8,000/s"]
    assert sorted(Path().rglob("*")) == before


def test_markdown_is_the_articles(cli: Cli) -> None:
    lines = cli("table", "x.yml", "--format", "md")[1].splitlines()
    assert (
        lines[0]
        == "| at | seed | validation loss | inputs | model params | train time (minutes) | throughput |"
    )
    assert lines[3] == "| none | 1 | 0.0110000 | 1,000,000 | 33,618 | 2.00 | 8,001/s |"


def test_csv_holds_numbers_in_full(cli: Cli) -> None:
    rows = list(csv.DictReader(cli("table", "x.yml", "--format", "csv")[1].splitlines()))
    assert [float(row["validation_loss"]) for row in rows] == list(LOSSES)
    assert rows[2]["at"] == "2,3,4"


def test_options_together(cli: Cli) -> None:
    options = ["--where", "seed=0", "--sort", "-params", "--columns", "at, validation_loss"]
    rows = json.loads(cli("table", "x.yml", *options, "--format", "json")[1])
    assert rows == [{"at": [2, 3, 4], "validation_loss": 0.0104}, {"at": [], "validation_loss": 0.012}]
    assert json.loads(cli("table", "x.yml", "--where", "params<1", "--format", "json")[1]) == []
    assert cli("table", "x.yml", "--where", "params<1")[0] == 0


def test_average_against_the_article(cli: Cli) -> None:
    options = ["--average", "seed", "--against", "article", "--sort", "validation_loss"]
    best, _ = json.loads(cli("table", "x.yml", *options, "--format", "json")[1])
    assert (best["at"], best["n"]) == ([2, 3, 4], 2)
    assert best["validation_loss"] == pytest.approx(0.0105)
    assert best["validation_loss_std"] == pytest.approx(0.0001414, rel=1e-3)
    assert best["difference"] == pytest.approx(0.0105 / 0.0105176 - 1)
    line = cli("table", "x.yml", *options, "--format", "md")[1].splitlines()[2]
    assert line.startswith("| 2,3,4 | 2 | 0.0105000 | 0.0001414 | 0.0105176 | -0.2% | 1,000,000 |")


def test_a_folder_in_place_of_the_file(cli: Cli) -> None:
    rows = json.loads(cli("table", "runs", "--format", "json")[1])
    assert {(tuple(row["mixer_at"]), row["seed"], row["validation_loss"]) for row in rows} == {
        ((), 0, 0.012), ((), 1, 0.011), ((2, 3, 4), 0, 0.0104), ((2, 3, 4), 1, 0.0106),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["x.yml", "--sort", "los"], "error: sort: there is no 'los'"),
        (["x.yml", "--columns", "at,sed"], "error: columns: there is no 'sed'; did you mean 'seed'?"),
        (
            ["x.yml", "--where", "state=done", "--where", "sed=1"],
            "error: where: there is no 'sed'; did you mean 'seed'?",
        ),
        (["x.yml", "--where", "at=[2"], "error: command line, 'at=[2'"),
        (["x.yml", "--average", "seed", "--sort", "seed"], "error: sort: there is no 'seed'"),
        (["x.yml", "--average", "seed", "--columns", "run"], "error: columns: there is no 'run'"),
        (["x.yml", "--columns", "difference"], "error: columns: there is no 'difference'"),
        (
            ["x.yml", "matrix.seed=x"],
            "error: command line, 'matrix.seed=x': matrix.seed: must be a list of at least one value",
        ),
        (["."], "error: .: holds no run; name an experiment file or a folder of runs"),
        (["x.yml", "--where", "at"], "error: where: 'at' must be a key"),
        (["x.yml", "--average", "ks"], "error: average: 'ks' is no axis of the matrix"),
        (["runs", "training.seed=1"], "only an experiment file can be overridden"),
        (["y.yml"], "error: y.yml: no such file or directory"),
        (["runs/mine/nothing"], "error: runs/mine/nothing: no such file or directory"),
    ],
)
def test_refusals(cli: Cli, options: list[str], sentence: str) -> None:
    status, out, err = cli("table", *options)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert sentence in err
    assert err.count("\n") == 1


def test_conditions_add_up(cli: Cli) -> None:
    def chosen(*conditions: str) -> list[float]:
        options = [word for condition in conditions for word in ("--where", condition)]
        rows = json.loads(cli("table", "x.yml", *options, "--format", "json")[1])
        return [row["validation_loss"] for row in rows]

    assert chosen("seed=1") == [0.011, 0.0106]
    assert chosen("seed=1", "validation_loss<0.011") == [0.0106]
    assert chosen("validation_loss<0.011", "seed=1") == [0.0106]
    assert chosen("seed=1", "seed=0") == []


def test_every_format_is_one_table_and_leaves_no_trace(cli: Cli) -> None:
    """Text, Markdown, CSV and JSON hold the same cells."""
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    columns = ["--columns", "at, seed, params, state", "--sort", "-validation_loss"]
    tables = {
        name: cli("table", "x.yml", *columns, "--format", name)[1] for name in ("text", "md", "csv", "json")
    }
    expected = [
        ["none", "0", "33617"],
        ["none", "1", "33618"],
        ["2,3,4", "1", "33620"],
        ["2,3,4", "0", "33619"],
    ]
    expected = [[*cells, "done"] for cells in expected]
    assert list(csv.reader(tables["csv"].splitlines())) == [["at", "seed", "params", "state"], *expected]
    lines = tables["md"].splitlines()[2:]
    assert [
        [cell.strip() for cell in line.strip("|").replace("33,", "33").split("|")] for line in lines
    ] == expected
    lines = [line for line in tables["text"].splitlines() if "done" in line]
    assert [line.replace("33,", "33").split() for line in lines] == expected
    assert [[row["seed"], row["params"]] for row in json.loads(tables["json"])] == [
        [int(seed), int(params)] for _, seed, params, _ in expected
    ]
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*")} == before


def test_what_is_not_done_stands_there_without_figures(cli: Cli) -> None:
    """A run without a result, one that failed with a reason of many words."""
    runs = read_experiment(Path("x.yml"), ["matrix.seed=[0, 7, 8]", "matrix.at=[[]]"]).runs
    RunDirectory.of(runs[1], Path("runs")).write_failure({"reason": 'error: "a, b" | c'})
    options = ["matrix.seed=[0, 7, 8]", "matrix.at=[[]]", "--columns", "seed,validation_loss,state,reason"]
    rows = list(csv.reader(cli("table", "x.yml", *options, "--format", "csv")[1].splitlines()))
    assert rows[1:] == [
        ["0", "0.012", "done", ""], ["7", "", "failed", 'error: "a, b" | c'], ["8", "", "open", ""],
    ]  # fmt: skip
    assert '| 7 |  | failed | error: "a, b" \\| c |' in cli("table", "x.yml", *options, "--format", "md")[1]
    rows = json.loads(cli("table", "x.yml", *options[:2], "--average", "seed", "--format", "json")[1])
    assert [(row["n"], row["state"], row["validation_loss"]) for row in rows] == [(1, "1 of 3 done", 0.012)]


def test_a_folder_is_averaged_and_compared_like_the_file(cli: Cli) -> None:
    options = ["--average", "seed", "--against", "article", "--sort", "validation_loss", "--format", "json"]
    of_file, of_folder = (json.loads(cli("table", source, *options)[1]) for source in ("x.yml", "runs/mine"))
    assert [row.pop("mixer_at") for row in of_folder] == [row.pop("at") for row in of_file]
    assert of_folder == of_file


def test_against_whom_nobody_knows(cli: Cli) -> None:
    status, out, err = cli("table", "x.yml", "--against", "me")
    assert (status, out) == (2, "")
    assert "'me' is not" in err


@pytest.mark.parametrize("options", [["--columns", "sed"], ["--sort", "sed"], ["--where", "sed=1"]])
def test_refusals_where_no_row_is_left(cli: Cli, options: list[str]) -> None:
    status, _, err = cli("table", "x.yml", "--where", "params<1", *options)
    assert status == 2
    assert "there is no 'sed'; did you mean 'seed'?" in err


def test_several_files_in_one_listing(cli: Cli, tmp_path: Path) -> None:
    """Each run with the name of its experiment; overrides are those of all files."""
    (tmp_path / "y.yml").write_text(SWEEP.replace("name: mine", "name: yours"))
    options = ["--average", "seed", "--format", "json"]
    rows = json.loads(cli("table", "x.yml", "y.yml", *options)[1])
    assert [(row["experiment"], row["at"], row["n"]) for row in rows] == [
        ("mine", [], 2), ("mine", [2, 3, 4], 2), ("yours", [], 0), ("yours", [2, 3, 4], 0)
    ]  # fmt: skip
    assert len(json.loads(cli("table", "x.yml", "y.yml", "matrix.seed=[0]", "--format", "json")[1])) == 4
    of_one = json.loads(cli("table", "x.yml", "y.yml", "--where", "experiment=mine", "--format", "json")[1])
    assert [row["validation_loss"] for row in of_one] == list(LOSSES)
    assert cli("table", "x.yml", "x.yml", "--format", "md")[1] == cli("table", "x.yml", "--format", "md")[1]
    planned = json.loads(cli("plan", "x.yml", "y.yml", "--format", "json")[1])
    assert [row["experiment"] for row in planned] == ["mine"] * 4 + ["yours"] * 4
    assert "done" in planned[0]
    assert cli("plot", "x.yml", "y.yml", "--pareto", "params", "-o", "x.svg")[0] == 0


def test_files_of_one_name_are_told_apart_by_their_paths(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "y.yml").write_text(SWEEP)
    rows = json.loads(cli("table", "x.yml", "y.yml", "--format", "json")[1])
    assert [row["experiment"] for row in rows] == ["x.yml"] * 4 + ["y.yml"] * 4


def test_an_axis_called_experiment_keeps_its_values(cli: Cli, tmp_path: Path) -> None:
    text = SWEEP.replace("${seed}", "${experiment}").replace("seed: [0, 1]", "experiment: [3, 4]")
    for name in ("y", "z"):
        (tmp_path / f"{name}.yml").write_text(text.replace("name: mine", f"name: {name}"))
    rows = json.loads(cli("table", "y.yml", "z.yml", "--format", "json")[1])
    assert [(row["experiment"], row["matrix.experiment"]) for row in rows[:2]] == [("y", 3), ("y", 4)]


def test_what_is_no_file_is_still_an_override(cli: Cli) -> None:
    status, _, err = cli("table", "x.yml", "z.yml")
    assert status == 2
    assert "z.yml" in err
    assert len(err.strip().splitlines()) == 1
