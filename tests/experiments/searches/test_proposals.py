"""What is tried next."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import pytest

from mixcoder.errors import ArgumentError
from mixcoder.experiments.file.matrix import Values
from mixcoder.experiments.file.search_section import Search
from mixcoder.experiments.searches.proposals import check_optuna, importances, make_study, propose
from mixcoder.experiments.searches.trials import Trial
from tests.conftest import Cli
from tests.experiments.searches.inline import read

pytest.importorskip("optuna")


@pytest.fixture
def search(tmp_path: Path) -> Search:
    found = read(tmp_path / "x.yml").search
    assert found
    return found


def loss(values: Values) -> float:
    """Smallest at a rate of 0.03 with twelve channels and mlp."""
    distance = abs(math.log(values["rate"] / 0.03))
    return float(0.1 + distance + 0.1 * (12 - values["channels"]) + 2 * (values["mixer"] == "cnn"))


def tried(search: Search, count: int) -> list[Trial]:
    """One trial after the other."""
    trials: list[Trial] = []
    for number in range(1, count + 1):
        trial = Trial(propose(search, trials, 0), number)
        trial.losses[0] = loss(trial.values)
        trials.append(trial)
    return trials


def test_proposals_are_a_function_of_what_was_found(search: Search) -> None:
    first, second = tried(search, 14), tried(search, 14)
    assert [trial.values for trial in first] == [trial.values for trial in second]
    for trial in first:
        trial.losses[0] *= -1
    assert propose(search, first, 0) != propose(search, second, 0)
    assert propose(search, second, 0) != propose(search, second, 1)


def test_values_are_those_of_the_file(search: Search) -> None:
    for trial in tried(search, 14):
        assert 0.001 <= trial.values["rate"] <= 0.3
        assert float(f"{trial.values['rate']:.4g}") == trial.values["rate"]
        assert trial.values["channels"] in (4, 8, 12)
        assert isinstance(trial.values["channels"], int)
        assert trial.values["mixer"] in ("cnn", "mlp")


def test_it_learns(search: Search) -> None:
    """Of forty proposals the later ones are better than the random ones at the beginning."""
    losses = [loss(trial.values) for trial in tried(search, 40)]
    assert sum(losses[30:]) / 10 < sum(losses[:10]) / 10
    assert min(losses[10:]) < min(losses[:10])


def test_it_learns_the_limits(search: Search) -> None:
    """What was beyond a limit is proposed less often."""
    trials: list[Trial] = []
    for _ in range(40):
        values = propose(search, trials, 0)
        trials.append(Trial(values, excess=float(values["mixer"] == "mlp")))
        if not trials[-1].excess:
            trials[-1].number = len(trials)
            trials[-1].losses[0] = 1.0
    assert sum(trial.excess for trial in trials[20:]) < sum(trial.excess for trial in trials[:20])


def test_what_the_sampler_is_told(search: Search) -> None:
    values: dict[str, Any] = {"rate": 0.01, "channels": 4, "mixer": "cnn"}
    trials = [
        Trial(values, 1, 1, losses={0: 0.5, 1: 0.25}),
        Trial(values, 2, 1, losses={0: 0.5}),
        Trial(values, 3, 0),
        Trial(values, 4, 0, losses={0: math.inf}),
        Trial(values, 0, excess=0.7),
    ]
    told = make_study(search, trials).trials
    assert [trial.state.name for trial in told] == ["COMPLETE", "PRUNED", "RUNNING", "PRUNED", "PRUNED"]
    assert told[0].value == 0.25
    assert [trial.intermediate_values for trial in told[1:]] == [{0: 0.5}, {}, {}, {}]
    assert [trial.constraints["limits"] for trial in told] == [0, 0, 0, 0, 0.7]


def test_what_matters_most_is_told(search: Search) -> None:
    """Of few trials nothing is."""
    shares = importances(search, tried(search, 30))
    assert sum(shares.values()) == pytest.approx(1)
    assert max(shares, key=shares.__getitem__) != "channels"
    assert importances(search, tried(search, 9)) == {}


def test_without_optuna_one_sentence_says_how_to_get_it(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(
        ArgumentError, match=r"search: needs another package: pip install 'mixcoder\[search\]'"
    ):
        check_optuna()
    read(tmp_path / "x.yml")
    status, _, err = cli("run", "x.yml")
    assert (status, err.count("\n")) == (2, 1)
    assert "pip install 'mixcoder[search]'" in err
    assert cli("plan", "x.yml")[0] == 0, "nothing but a proposal needs it"
