"""Asynchronous successive halving: which trial goes on to the next rung, without waiting for the others.

    rung 0   ● ● ● ● ● ● ● ● ●     each trial, few images
    rung 1   ● ● ●                 the best third (0.34) of those that have ended below, more images
    rung 2   ●                     …

A trial goes on as soon as it is among the best of its rung, so that no worker waits.

Source: L. Li, K. Jamieson et al., "A System for Massively Parallel Hyperparameter Tuning", arXiv 1810.05934,
algorithm 2 (ASHA).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from mixcoder.experiments.file.search_section import SearchSection
from mixcoder.experiments.searches.trials import AskedTrials, Trial

_ROUNDING = 1e-9
"""So that 0.2 of 5 is 1."""
_BEYOND_ALL = 10**12
"""More trials than any search has, for shares next to nothing."""


def next_promotion(section: SearchSection, trials: Sequence[Trial]) -> Trial | None:
    """Returns the trial that is to go on to the rung above its own; None while none is.

    The highest rung is looked at first, and on it the best trial.
    """
    for rung in reversed(range(len(section.inputs) - 1)):
        ended = rank([trial for trial in trials if rung in trial.losses], rung)
        best = ended[: math.floor(len(ended) * section.keep + _ROUNDING)]
        for trial in best:
            if trial.rung == rung and math.isfinite(trial.losses[rung]):
                return trial
    return None


def most_on_rung(section: SearchSection, rung: int) -> int:
    """Returns how many trials can reach a rung, from 0: where each one is better than all before it.

    Each rung loses those that must have ended on it before its first one goes on, but one.
    """
    return max(0, section.trials - rung * (_trials_for(section.keep, 1) - 1))


def trials_for_rung(section: SearchSection, rung: int) -> int:
    """Returns how many trials it takes that one is sure to reach a rung, from 0, if none fails."""
    needed = 1
    for _ in range(rung):
        needed = _trials_for(section.keep, needed)
    return needed


def _trials_for(keep: float, count: int) -> int:
    """Returns of how many trials the share `keep` is `count`."""
    return math.ceil(min((count - _ROUNDING) / keep, _BEYOND_ALL))


def rank(trials: Sequence[Trial], rung: int) -> list[Trial]:
    """Returns trials by their loss on a rung, the best first; of equal ones the earlier first."""
    by_loss = sorted((_loss(trial, rung), trial.number, i) for i, trial in enumerate(trials))
    return [trials[i] for *_, i in by_loss]


def choose_finalists(section: SearchSection, trials: Sequence[Trial]) -> list[Trial]:
    """Returns the best trials, those of the highest rung first."""
    chosen: list[Trial] = []
    for rung in reversed(range(len(section.inputs))):
        on_rung = [trial for trial in trials if trial not in chosen and math.isfinite(_loss(trial, rung))]
        chosen += rank(on_rung, rung)
    return chosen[: section.finalists]


def _loss(trial: Trial, rung: int) -> float:
    """Returns the loss on a rung; infinite where there is none, or no number."""
    loss = trial.losses.get(rung, math.inf)
    return math.inf if math.isnan(loss) else loss


def is_over(section: SearchSection, asked: AskedTrials) -> bool:
    """Returns whether all trials have ended, so that the finalists are known."""
    trained = asked.trained
    is_all_asked = asked.is_exhausted or len(trained) >= section.trials
    is_waiting = any(trial.is_pending for trial in trained)
    return is_all_asked and not is_waiting and next_promotion(section, trained) is None
