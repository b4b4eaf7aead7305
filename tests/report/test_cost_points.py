"""Plots of costs: means of seeds, the article's networks beside ours, and times that compare."""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.step_times import REFERENCE, article_contestants, measure_all, own_contestants, table_of

from mixcoder.errors import ArgumentError
from mixcoder.experiments.file.spec import read_experiment
from mixcoder.experiments.results.article import article_run, article_tables
from mixcoder.experiments.results.records import Record, read_all_records, records_of
from mixcoder.experiments.results.step_times import StepTimes, read_step_times, step_key
from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.report.chart_data import pareto_front
from mixcoder.report.cost_points import CostOptions, cost_points
from mixcoder.report.figures import pareto_plot, save_figure
from mixcoder.report.page import render_page
from tests.conftest import Cli

SWEEP = """\
name: mine
data: {source: mnist}
model: {type: mixer, patch_size: 7, hidden_channels: ["${width}"], latent_dim: 16, mixer_at: [1]}
training: {inputs: 1_000_000, seed: "${seed}"}
matrix: {width: [8, 16], seed: [0, 1, 2]}
"""
LOSSES = (0.012, 0.010, 0.011, 0.0050, 0.0040, 0.0048)


def records(folder: Path, text: str = SWEEP, name: str = "x") -> list[Record]:
    """Runs that are done, as far as a plot can see."""
    (folder / f"{name}.yml").write_text(text)
    experiment = read_experiment(folder / f"{name}.yml")
    for i, run in enumerate(experiment.runs):
        directory = RunDirectory.of(run, folder / "runs")
        directory.write_config(run)
        figures: dict[str, Any] = {"params": 1_000 + i // 3, "madds": 5_000 + i // 3, "inputs": 1_000_000}
        loss = LOSSES[i % len(LOSSES)]
        directory.write_result({"validation_loss": loss, "train_minutes": 2.0 + i, **figures})
    return records_of(experiment, folder / "runs")


def times_of(runs: list[Record]) -> StepTimes:
    """Times in which the networks stand in their order."""
    every = [article_run(row) for table in article_tables().values() for row in table]
    every += [record.run for record in runs if record.run]
    steps = {
        step_key(run): {"name": "x", "seconds": 0.001 * i, "ratio": 1.0} for i, run in enumerate(every, 1)
    }
    return StepTimes.model_validate({"machine": "m", "threads": 2, "reference": "x", "steps": steps})


def test_means_over_seeds(tmp_path: Path) -> None:
    points = cost_points(records(tmp_path), CostOptions(average="seed"))
    assert [point.name for point in points] == ["width=8", "width=16"]
    assert [point.runs for point in points] == [(0, 1, 2), (3, 4, 5)]
    assert points[0].loss == pytest.approx(statistics.fmean(LOSSES[:3]))
    assert points[1].std == pytest.approx(statistics.stdev(LOSSES[3:]))
    assert (points[0].costs["params"], points[0].costs["time"]) == (1_000, 3.0)
    each = cost_points(records(tmp_path))
    assert [point.runs for point in each] == [(i,) for i in range(6)]
    assert {point.std for point in each} == {None}
    assert each[4].name == "width=16, seed=1"


def test_means_of_several_experiments_have_their_names(tmp_path: Path) -> None:
    """In whatever order; seeds of one never count for another."""
    one = SWEEP.replace("width: [8, 16]", "width: [8]")
    records(tmp_path, one.replace("mine", "small"), "a")
    records(tmp_path, one, "b")
    runs = read_all_records([tmp_path / "a.yml", tmp_path / "b.yml"], (), tmp_path / "runs")
    points = cost_points(runs, CostOptions(average="seed"))
    assert [(point.name, point.runs) for point in points] == [("small", (0, 1, 2)), ("mine", (3, 4, 5))]


def test_a_seed_that_is_not_done_is_no_part_of_the_mean(tmp_path: Path) -> None:
    runs = records(tmp_path)
    (runs[0].directory.path / "result.json").unlink()
    again = records_of(read_experiment(tmp_path / "x.yml"), tmp_path / "runs")
    [first, _] = cost_points(again, CostOptions(average="seed"))
    assert first.loss == pytest.approx(statistics.fmean(LOSSES[1:3]))
    assert first.runs == (0, 1, 2)


def test_the_articles_networks_stand_beside_ours(tmp_path: Path) -> None:
    points = cost_points(records(tmp_path), CostOptions(average="seed", has_article=True))
    published = [point for point in points if point.is_published]
    assert len(published) == 49
    rows = [row for table in article_tables().values() for row in table if row["inputs"] == 1_000_000]
    of_mnist = [row for row in rows if row["model"]["image_shape"] == [1, 28, 28]]
    assert [point.costs["params"] for point in published] == [row["params"] for row in of_mnist]
    assert [point.loss for point in published] == [row["validation_loss"] for row in of_mnist]
    cnn = next(point for point in published if point.name == "CNN k5")
    assert cnn.costs["madds"] == 36_105_216
    assert {point.costs["time"] for point in published} == {None}


def test_rows_of_other_data_or_inputs_do_not_compare(tmp_path: Path) -> None:
    options = CostOptions(has_article=True)
    for text in (
        SWEEP.replace("mnist", "fashion_mnist"),
        SWEEP.replace("mnist", "mnist, search_holdout: 5_000"),
    ):
        with pytest.raises(ArgumentError, match="against: the article has no row of the same data"):
            cost_points(records(tmp_path, text), options)
    short = [record for record in records(tmp_path) if record.result.update(inputs=64_000) is None]
    with pytest.raises(ArgumentError, match="the article has no row"):
        cost_points(short, options)
    long = [record for record in records(tmp_path) if record.result.update(inputs=6_000_000) is None]
    assert sum(point.is_published for point in cost_points(long, options)) == 2


def test_measured_times_take_the_place_of_stated_ones(tmp_path: Path) -> None:
    runs = records(tmp_path)
    times = times_of(runs)
    points = cost_points(runs, CostOptions("seed", has_article=True, times=times))
    steps = 1_000_000 / 64
    assert points[0].costs["time"] == pytest.approx(0.001 * 67 * steps / 60)
    assert points[2].costs["time"] == pytest.approx(0.001 * 1 * steps / 60)
    times.steps.popitem()
    with pytest.raises(ArgumentError, match="times: has no time of a run of 'mine'; python -m benchmarks"):
        cost_points(runs, CostOptions(times=times))


def test_seeds_and_rates_share_a_time_and_other_batches_do_not(tmp_path: Path) -> None:
    first, *others = [record.run for record in records(tmp_path) if record.run]
    assert step_key(first) == step_key(others[0])
    assert step_key(first) != step_key(others[-1])
    for override, is_same in (("training.learning_rate=0.1", True), ("training.batch_size=32", False)):
        changed = read_experiment(tmp_path / "x.yml", [override]).runs[0]
        assert (step_key(changed) == step_key(first)) is is_same


def test_the_front_goes_through_all(tmp_path: Path) -> None:
    options = CostOptions("seed", has_article=True)
    runs = records(tmp_path)
    figure = pareto_plot(runs, "madds", options)
    save_figure(figure, tmp_path / "x.svg")
    text = (tmp_path / "x.svg").read_text()
    assert "● mean ± std over seed" in text
    assert "◆ the article's 49 networks, one seed each" in text
    points = cost_points(runs, options)
    front = pareto_front([(point.costs["madds"], point.loss) for point in points])
    assert [points[i].name for i in front] == ["width=8", "width=16"]
    [line] = [line for line in figure.axes[0].lines if line.get_linestyle() == "--"]
    assert np.asarray(line.get_ydata()) == pytest.approx([points[i].loss for i in front])
    save_figure(pareto_plot(runs, "madds", options), tmp_path / "y.svg")
    assert (tmp_path / "y.svg").read_bytes() == (tmp_path / "x.svg").read_bytes()
    assert len(text) < 50_000


def test_commands(cli: Cli, tmp_path: Path) -> None:
    runs = records(tmp_path)
    (tmp_path / "times.json").write_text(json.dumps(times_of(runs).model_dump()))
    beside = ("--average", "seed", "--against", "article")
    assert cli("plot", "x.yml", "--pareto", "params", *beside, "-o", "x.svg")[0] == 0
    assert cli("plot", "x.yml", "--pareto", "time", *beside, "--times", "times.json", "-o", "x.svg")[0] == 0
    assert cli("report", "x.yml", *beside, "--times", "times.json", "-o", "x.html")[0] == 0
    page = Path("x.html").read_text()
    [text] = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, flags=re.S)
    points = json.loads(text)["points"]
    assert len(points) == 51
    assert points[0]["std"] is not None
    assert [point["costs"]["time"] is None for point in points] == [False] * 51
    assert "one seed each" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--average", "seed"], "--average, --against and --times go with --pareto"),
        (
            ["--pareto", "params", "--average", "sed"],
            "average: 'sed' is no axis of the matrix; did you mean 'seed'",
        ),
        (
            ["--pareto", "time", "--against", "article"],
            "against: the article's networks have no minutes of training",
        ),
        (["--pareto", "time", "--times", "none.json"], "times: none.json: no such file"),
        (["--pareto", "time", "--times", "x.yml"], "times: x.yml: is not readable JSON"),
        (["--pareto", "time", "--times", "odd.json"], "times: odd.json: is no file of benchmarks.step_times"),
    ],
    ids=["no cost", "no axis", "no times", "no file", "no JSON", "another file"],
)
def test_mistakes_are_one_sentence(cli: Cli, tmp_path: Path, arguments: list[str], message: str) -> None:
    records(tmp_path)
    (tmp_path / "odd.json").write_text('{"machine": "m", "threads": 2, "reference": "x", "steps": {"a": 1}}')
    status, _, err = cli("plot", "x.yml", *arguments, "-o", "x.svg")
    assert status == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_marks_in_a_browser(tmp_path: Path, browser: object) -> None:
    from playwright.sync_api import Browser

    assert isinstance(browser, Browser)
    runs = records(tmp_path)
    (tmp_path / "x.html").write_text(render_page(runs, options=CostOptions("seed", has_article=True)))
    page = browser.new_page(viewport={"width": 1000, "height": 800})
    heard: list[str] = []
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.goto((tmp_path / "x.html").as_uri())
    for marks, count in (("circle", 2), ("path.published", 49), ("path.deviation", 2)):
        assert page.locator(f"#pareto {marks}").count() == count
    page.locator("#filter").fill("width=8")
    assert page.locator("#pareto circle").count() == 1
    page.locator("#filter").fill("")
    page.locator('#costs button[data-cost="time"]').click()
    assert page.locator("#pareto path.published").count() == 0
    assert page.locator("#pareto circle").count() == 2
    assert not heard
    page.close()


def test_times_are_measured_against_the_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    article = article_contestants()
    assert len(article) == 49
    assert len({step_key(run) for _, run in article}) == 49
    records(tmp_path)
    own = own_contestants([tmp_path / "x.yml"])
    assert [(name, run.model[1]["hidden_channels"]) for name, run in own] == [("mine", [8]), ("mine", [16])]
    for name, seconds in (("BURSTS", 1), ("BURST_SECONDS", 0.0), ("ROUNDS", 2)):
        monkeypatch.setattr(f"benchmarks.step_times.{name}", seconds)
    reference = [contestant for contestant in article if contestant.name == REFERENCE]
    times = measure_all([*reference, own[0]], "a machine")
    (tmp_path / "times.json").write_text(json.dumps(times.model_dump()))
    read = read_step_times(tmp_path / "times.json")
    assert read == times
    assert read.steps[step_key(reference[0].run)].ratio == 1.0
    assert read.steps[step_key(own[0].run)].ratio < 1.0
    names = [line.split("|")[1].strip() for line in table_of(read).splitlines()]
    assert names == ["network", ":---", REFERENCE, "mine"]
