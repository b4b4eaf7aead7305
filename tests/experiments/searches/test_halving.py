"""Which trial goes on."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from mixcoder.experiments.file.search_section import SearchSection
from mixcoder.experiments.searches.halving import (
    choose_finalists,
    most_on_rung,
    next_promotion,
    trials_for_rung,
)
from mixcoder.experiments.searches.trials import Trial

SECTION = SearchSection(trials=9, values={"a": [1]}, inputs=[10, 20, 30], keep=0.34, finalists=3)


def trial(number: int, *losses: float) -> Trial:
    """A trial that ended on as many rungs."""
    return Trial({}, number, max(0, len(losses) - 1), losses=dict(enumerate(losses)))


def test_the_best_of_a_rung_goes_on_as_soon_as_it_is_among_the_best() -> None:
    trials = [trial(1, 0.5), trial(2, 0.4)]
    assert next_promotion(SECTION, trials) is None, "0.34 of two is none"
    trials.append(trial(3, 0.6))
    assert next_promotion(SECTION, trials) is trials[1]
    trials[1].rung = 1
    assert next_promotion(SECTION, trials) is None, "it is on its way"
    trials.append(trial(4, 0.1))
    assert next_promotion(SECTION, trials) is trials[3], "though another went on before"


def test_the_highest_rung_comes_first() -> None:
    trials = [trial(i, 0.5, 0.1 * i) for i in (1, 2, 3)] + [trial(i, 0.3) for i in (4, 5, 6)]
    assert next_promotion(SECTION, trials) is trials[0]
    trials[0].rung = 2
    assert next_promotion(SECTION, trials) is trials[3]


def test_what_runs_or_failed_does_not_go_on() -> None:
    running = trial(4)
    trials = [trial(i, math.inf) for i in (1, 2, 3)] + [running]
    assert next_promotion(SECTION, trials) is None
    running.losses[0] = 0.9
    assert next_promotion(SECTION, trials) is running, "those that failed have ended too"


def test_finalists_are_of_the_highest_rungs() -> None:
    trials = [trial(1, 0.1, 0.3), trial(2, 0.2, 0.2, 0.4), trial(3, 0.05), trial(4, 0.04), trial(5, math.inf)]
    assert [each.number for each in choose_finalists(SECTION, trials)] == [2, 1, 4]
    assert choose_finalists(SECTION, [trial(1, math.inf), trial(2)]) == []


@given(losses=st.lists(st.floats(0, 1), min_size=1, max_size=60), keep=st.floats(0.05, 0.9))
def test_one_after_the_other_the_best_share_reaches_the_next_rung(losses: list[float], keep: float) -> None:
    section = SECTION.model_copy(update={"keep": keep})
    trials: list[Trial] = []
    left = list(losses)
    while True:
        chosen = next_promotion(section, trials)
        if chosen is not None:
            chosen.rung += 1
        elif left:
            chosen = trial(len(trials) + 1)
            trials.append(chosen)
        else:
            break
        chosen.losses[chosen.rung] = losses[chosen.number - 1]
        if chosen.rung == 0:
            left.pop()
    best = sorted(trials, key=lambda each: (each.losses[0], each.number))
    must = math.floor(len(trials) * keep + 1e-9)
    assert all(each.rung >= 1 for each in best[:must])
    played = section.model_copy(update={"trials": len(trials)})
    for rung in range(3):
        count = sum(each.rung >= rung for each in trials)
        assert count <= most_on_rung(played, rung)
        assert count >= 1 or len(trials) < trials_for_rung(played, rung)


def test_a_third_is_a_third() -> None:
    section = SearchSection(trials=9, values={"a": [1]}, inputs=[10, 20, 30])
    assert [trials_for_rung(section, rung) for rung in range(3)] == [1, 3, 9]
    trials = [trial(number, 0.1 * number) for number in range(1, 10)]
    for _ in range(3):
        chosen = next_promotion(section, trials)
        assert chosen
        assert chosen.number <= 3
        chosen.rung = 1
    assert next_promotion(section, trials) is None


def test_how_many_can_reach_a_rung_is_reached_by_trials_that_get_better() -> None:
    section = SearchSection(trials=8, values={"a": [1]}, inputs=[10, 20, 30])
    trials: list[Trial] = []
    while (chosen := next_promotion(section, trials)) or len(trials) < section.trials:
        if chosen is None:
            chosen = trial(len(trials) + 1)
            trials.append(chosen)
        else:
            chosen.rung += 1
        chosen.losses[chosen.rung] = 1 / chosen.number
    counts = [sum(each.rung >= rung for each in trials) for rung in range(3)]
    assert counts == [most_on_rung(section, rung) for rung in range(3)] == [8, 6, 4]
    assert trials_for_rung(section.model_copy(update={"keep": 1e-300}), 2) > section.trials
