"""What is tried next: Optuna's TPE sampler, asked anew each time.

    trials so far ─▶ a study in memory ─▶ TPE, seeded by the search and the number of trials ─▶ values

The study is made of the trials each time, and the sampler's random numbers follow from their number. So a
proposal is a function of the results alone, whichever process asks, and nothing of Optuna's is kept.

Sources: T. Akiba et al., "Optuna", arXiv 1907.10902; J. Bergstra et al., "Algorithms for Hyper-Parameter
Optimization", NeurIPS 2011; S. Watanabe, "Tree-Structured Parzen Estimator", arXiv 2304.11127.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mixcoder.errors import ArgumentError
from mixcoder.experiments.file.matrix import Values
from mixcoder.experiments.file.search_section import Search
from mixcoder.experiments.file.spaces import ChoiceSpace, Space
from mixcoder.experiments.searches.trials import Trial

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

_SAMPLED = 10
"""Attempts that the sampler has; later ones are drawn evenly."""
_FEWEST_FOR_IMPORTANCE = 10
"""Trials, below which an importance says little."""


def check_optuna() -> None:
    """Checks that Optuna is installed.

    Raises:
        ArgumentError: it is not; says how to install it.
    """
    try:
        import optuna  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "optuna":
            raise
        raise ArgumentError("search", "needs another package: pip install 'mixcoder[search]'") from None


def propose(search: Search, trials: Sequence[Trial], attempt: int) -> Values:
    """Returns the values of the next trial.

    Args:
        search: says what the values may be.
        trials: all that were proposed before, also those beyond the limits, with their losses so far.
        attempt: how many proposals after these trials were among them already.
    """
    seeds = np.random.SeedSequence([search.section.seed, len(trials), attempt])
    if attempt >= _SAMPLED:  # what the sampler insists on is known already
        generator = np.random.default_rng(seeds)
        return {name: space.draw(generator) for name, space in search.spaces.items()}
    study = make_study(search, trials, int(seeds.generate_state(1)[0]))
    asked = study.ask({name: _distribution(space) for name, space in search.spaces.items()})
    return {name: _value(space, asked.params[name]) for name, space in search.spaces.items()}


def make_study(search: Search, trials: Sequence[Trial], seed: int = 0) -> Study:
    """Returns trials as a study of Optuna.

    TPE prefers trials of a higher rung, and on a rung those of a lower loss. It takes a trial without a loss
    for a bad one, so that no two workers try the same.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed)
    study = optuna.create_study(sampler=sampler)
    for trial in trials:
        study.add_trial(_as_optuna(search, trial))
    return study


def importances(search: Search, trials: Sequence[Trial]) -> dict[str, float]:
    """Returns how much each value matters for the loss on the first rung, where all trials are: shares of 1.

    Empty where Optuna is not installed, or too few trials have ended.

    Source: S. Watanabe et al., "PED-ANOVA", arXiv 2304.10255, as Optuna has it.
    """
    ended = [
        Trial(trial.values, trial.number, losses={len(search.section.inputs) - 1: trial.losses[0]})
        for trial in trials
        if math.isfinite(trial.losses.get(0, math.inf))
    ]
    if len(ended) < _FEWEST_FOR_IMPORTANCE or len(search.spaces) < 2:
        return {}
    try:
        from optuna.importance import get_param_importances
    except ModuleNotFoundError:
        return {}
    return dict(get_param_importances(make_study(search, ended)))


def _as_optuna(search: Search, trial: Trial) -> FrozenTrial:
    import optuna
    from optuna.trial import TrialState

    losses = {rung: loss for rung, loss in sorted(trial.losses.items()) if math.isfinite(loss)}
    highest = len(search.section.inputs) - 1
    state = TrialState.PRUNED
    if trial.is_pending and not trial.losses:
        state = TrialState.RUNNING
    elif highest in losses:
        state = TrialState.COMPLETE
    return optuna.trial.create_trial(
        state=state,
        value=losses.get(highest),
        params={name: _internal(space, trial.values[name]) for name, space in search.spaces.items()},
        distributions={name: _distribution(space) for name, space in search.spaces.items()},
        intermediate_values=losses,
        constraints={"limits": trial.excess},
    )


def _distribution(space: Space) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(space, ChoiceSpace):
        return CategoricalDistribution(range(len(space.options)))  # which may be maps, unlike Optuna's
    if space.is_whole:
        return IntDistribution(int(space.low), int(space.high), log=space.is_log, step=int(space.step or 1))
    return FloatDistribution(space.low, space.high, log=space.is_log, step=space.step)


def _internal(space: Space, value: Any) -> Any:
    """Returns a value as Optuna has it."""
    return space.index(value) if isinstance(space, ChoiceSpace) else value


def _value(space: Space, internal: Any) -> Any:
    """Returns a value of Optuna's as a file states it."""
    return space.options[internal] if isinstance(space, ChoiceSpace) else space.nearest(internal)
