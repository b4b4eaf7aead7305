"""What the page says of a search."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mixcoder.experiments.file.search_section import Search
from mixcoder.experiments.results.records import Record, State, records_of
from mixcoder.experiments.searches.trial_losses import read_asked
from mixcoder.experiments.sweeps.run_state import RunState
from mixcoder.report.search_story import SearchStory, tell_search
from tests.conftest import Cli
from tests.experiments.searches.inline import SEARCH, InlineWorkers, KilledError, read, search_on
from tests.report.test_page import embedded

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytest.importorskip("optuna")
CHANGES = ("search.trials=5", "search.limits={params: 700}")


class Searched:
    """A search that is over."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        experiment = read(folder / "x.yml", *CHANGES)
        assert experiment.search
        self.search: Search = experiment.search
        self.states: list[RunState] = search_on(experiment, InlineWorkers(folder / "runs"))
        self.records: list[Record] = records_of(experiment, folder / "runs")


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Searched:
    return Searched(tmp_path_factory.mktemp("searched"))


def test_the_winner_is_that_of_the_results(searched: Searched) -> None:
    story = tell_search(
        searched.search, read_asked(searched.search, searched.folder / "runs"), searched.records
    )
    losses: dict[int, list[float]] = {}
    for record in searched.records:
        if record.values["rung"] == "final":
            losses.setdefault(record.values["trial"], []).append(record.result["validation_loss"])
    means = {trial: sum(each) / len(each) for trial, each in losses.items()}
    winner = min(means, key=means.__getitem__)
    assert len(story.finalists) == 5, "two finalists, and the three others"
    assert all(row[-2] == "" for row in story.finalists[2:])
    assert [row[0] for row in story.finalists][:2] == [
        str(trial) for trial in sorted(means, key=means.__getitem__)
    ]
    assert story.verdict.startswith(
        f"Trial {winner} won: its mean validation loss is the lowest of 2 finalists, "
    )
    assert story.best is not None
    best = searched.records[story.best]
    assert (best.values["trial"], best.result["validation_loss"]) == (winner, min(losses[winner]))
    row = dict(zip(story.headings, story.finalists[0], strict=True))
    assert list(row)[:6] == ["trial", "rate", "channels", "mixer", "loss after 640", "loss after 1,280"]
    assert row["validation loss"].startswith(f"{means[winner]:.7f}")
    assert row["validation loss"].endswith(" (2 seeds)")


def test_every_training_is_a_point_and_what_never_trained_is_counted(searched: Searched) -> None:
    asked = read_asked(searched.search, searched.folder / "runs")
    story = tell_search(searched.search, asked, searched.records)
    never = len(asked.proposed) - 5
    assert never > 0
    assert story.counts.startswith("Trials were trained on rungs: 5 on 640 images, ")
    assert story.counts.endswith(f" {never:,} combinations beyond the limits were never trained.")
    points = story.charts["points"]
    assert [point["run"] for point in points] == list(range(len(searched.records)))
    assert {point["rung"] for point in points} == {0, 1, 2}
    assert [axis["title"] for axis in story.charts["axes"]] == ["rate", "channels", "mixer"], "of five trials"


def test_before_there_is_a_winner_the_page_shows_what_was_tried(tmp_path: Path) -> None:
    experiment = read(tmp_path / "x.yml")
    assert experiment.search
    with pytest.raises(KilledError):
        search_on(experiment, InlineWorkers(tmp_path, killed_after=2))
    story = tell_search(
        experiment.search, read_asked(experiment.search, tmp_path), records_of(experiment, tmp_path)
    )
    assert (story.finalists, story.verdict, story.best) == ([], "", None)
    assert len(story.charts["points"]) == 2
    assert story.examined == {0, 1}


def told(searched: Searched, records: list[Record]) -> SearchStory:
    return tell_search(searched.search, read_asked(searched.search, searched.folder / "runs"), records)


def ended(searched: Searched, losses: dict[int, float | None], state: State = "failed") -> list[Record]:
    """The records, some finals with another loss, by their place among the finals; None in another state."""
    finals = [i for i, record in enumerate(searched.records) if record.values["rung"] == "final"]
    records = list(searched.records)
    for place, loss in losses.items():
        i = finals[place]
        records[i] = replace(
            records[i],
            state=state if loss is None else "done",
            result={} if loss is None else {**records[i].result, "validation_loss": loss},
        )
    return records


def test_no_winner_before_all_seeds_have_ended(searched: Searched) -> None:
    """The finals are seed by seed: 0 and 2 are of one finalist, 1 and 3 of the other."""
    for missing in range(4):
        records = ended(searched, {0: 0.1, 1: 0.2, 2: 0.1, 3: 0.2, missing: None}, "running")
        story = told(searched, records)
        assert (story.verdict, story.best) == ("", None)
        assert sorted("1 of 2 seeds" in row[-2] for row in story.finalists[:2]) == [False, True]
    story = told(searched, [record for record in searched.records if record.values.get("seed") != 4])
    assert (story.verdict, story.best) == ("", None), "on a page of some seeds"


def test_a_seed_that_failed_is_the_worst(searched: Searched) -> None:
    for lost in (None, float("inf"), float("nan")):
        story = told(searched, ended(searched, {0: 0.1, 1: 0.2, 2: lost, 3: 0.3}))
        first, second = (row[0] for row in story.finalists[:2])
        records = ended(searched, {})
        winner = [record.values["trial"] for record in records if record.values["rung"] == "final"][1]
        assert first == str(winner)
        assert story.verdict.startswith(f"Trial {winner} won: its mean validation loss is the lowest of 2 ")
        assert f"and trainings of trial {second}, the second, failed" in story.verdict
        assert story.finalists[1][-2] == "0.1000000 (1 of 2 seeds), 1 failed"
    story = told(searched, ended(searched, {0: 0.1, 1: 0.2, 2: None, 3: None}))
    assert (story.verdict, story.best) == ("", None), "where all failed"


def test_losses_of_zero_are_compared(searched: Searched) -> None:
    verdict = told(searched, ended(searched, dict.fromkeys(range(4), 0.0))).verdict
    assert "is the lowest of 2 finalists, and equal to that of trial " in verdict


def test_a_value_may_be_called_as_a_measure(tmp_path: Path) -> None:
    (tmp_path / "x.yml").write_text(SEARCH.replace("${mixer}", "${params}").replace("mixer: [", "params: ["))
    experiment = read(tmp_path / "x.yml")
    assert experiment.search
    with pytest.raises(KilledError):
        search_on(experiment, InlineWorkers(tmp_path, killed_after=2))
    records = records_of(experiment, tmp_path)
    story = tell_search(experiment.search, read_asked(experiment.search, tmp_path), records)
    assert [axis["title"] for axis in story.charts["axes"]] == ["rate", "channels", "params"]
    assert {record.values["matrix.params"] for record in records} <= {"cnn", "mlp"}


def test_the_page_in_a_browser(searched: Searched, browser: Browser, cli: Cli) -> None:
    status, _, err = cli(
        "report", searched.folder / "x.yml", *CHANGES, "--runs", searched.folder / "runs", "-o", "page.html"
    )
    assert status == 0, err
    text = Path("page.html").read_text()
    content: Any = embedded(text)
    assert len(content["search"]["axes"]) == 3
    page, problems = browser.new_page(), list[str]()
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(Path("page.html").absolute().as_uri())
    assert page.locator("#values .chart svg").count() == 3
    finals = [record for record in searched.records if record.values["rung"] == "final"]
    assert page.locator("#values rect.final").count() == 3 * len(finals)
    assert page.locator("#values circle").count() == 3 * (len(searched.records) - len(finals))
    assert page.locator("#pictures .strip[data-run]").count() == len(finals), "not those of all trials"
    assert page.locator("#rungs span").all_inner_texts() == ["640 images", "1,280 images", "finalists"]
    page.fill("#filter", "rung=final")
    assert page.locator("#values circle").count() == 0
    assert "Why the winner won" in page.locator("#search").inner_text()
    assert json.dumps(problems) == "[]"
    page.close()
