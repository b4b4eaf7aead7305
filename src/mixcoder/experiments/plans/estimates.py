"""How long a run will take, before it begins.

    finished runs of the same type of model, computed alike on such a machine ─▶ their rate ─┐
    no such run ─▶ how fast this machine takes training steps ───────────────────────────────┴▶ minutes

Both grow with the multiply-adds of a training step.
"""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from mixcoder.backends.backend import BackendChoice
from mixcoder.backends.eager import EAGER
from mixcoder.backends.speed import Work, step_seconds
from mixcoder.backends.step import UnsupportedError
from mixcoder.errors import MixcoderError
from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.experiments.runs.run_folders import find_run_folders
from mixcoder.models.cost import Costs

FROM_RUNS = "estimate from finished runs"
FROM_SPEED = "estimate from measured speed"
UNKNOWN = "unknown"
_USUAL_OPTIMIZER = "adamw"
"""Of results that do not state theirs, which older ones do not."""
_SHORTEST_SECONDS = 0.5
"""Of training after the warm-up, below which a throughput says little."""
_LEAST_RATIO = 1e-9
"""Of costs, where a model has no multiply-adds at all."""


@dataclass(frozen=True)
class FinishedRun:
    """A finished run, to estimate others from.

    Attributes:
        kind: type of the model, optimizer, and how steps were computed; runs compare within a kind.
        madds: multiply-adds of one image, without derivatives.
        train_madds: of one image in a training step; None in results of earlier versions.
        throughput: images a second.
    """

    kind: tuple[str, str, str]
    madds: int
    train_madds: int | None
    throughput: float

    def ratio(self, costs: Costs) -> float:
        """Returns how many times as much an image costs as one of this run, by what this run states."""
        if self.train_madds is None:
            return costs.madds / self.madds
        return costs.train_madds / self.train_madds


def finished_runs(runs: Path) -> list[FinishedRun]:
    """Returns the finished runs below a folder that were trained by as many threads as there are here."""
    return list(_finished_runs(runs)) if runs.is_dir() else []


def estimate_step_seconds(
    what: tuple[str, str], backend: BackendChoice, work: Work, finished: Sequence[FinishedRun]
) -> tuple[float, str]:
    """Returns the seconds that a training step will take, and from what they are estimated.

    Args:
        what: type of the model, and optimizer.
        backend: how its steps will be computed.
        work: of a step.
        finished: runs to compare with.
    """
    kind = *what, str(replace(backend, note="", precision_note=""))
    like = [run for run in finished if run.kind == kind]
    if like:
        ratios = [run.ratio(work.costs) for run in like]
        distances = [abs(math.log(max(ratio, _LEAST_RATIO))) for ratio in ratios]
        nearest = distances.index(min(distances))
        return ratios[nearest] * work.batch_size / like[nearest].throughput, FROM_RUNS
    try:
        return step_seconds(backend, work), FROM_SPEED
    except (UnsupportedError, OSError):  # no compiler, or no library to call: such a run takes eager steps
        return step_seconds(replace(backend, backend=EAGER, shards=1), work), FROM_SPEED


def _finished_runs(runs: Path) -> Iterator[FinishedRun]:
    for folder in find_run_folders(runs):
        with suppress(MixcoderError, OSError, KeyError, TypeError, AttributeError):
            result: dict[str, Any] = RunDirectory(folder).read_result() or {}
            seconds = 60 * result["train_minutes"] - result["warmup_seconds"]
            if _is_of_this_machine(result["hardware"]) and seconds >= _SHORTEST_SECONDS:
                execution = result["execution"].partition(" (")[0]
                kind = result["model"], result.get("optimizer", _USUAL_OPTIMIZER), execution
                run = FinishedRun(
                    kind, result["madds"], result.get("train_madds"), float(result["throughput"])
                )
                if run.throughput > 0 and run.madds > 0 and (run.train_madds is None or run.train_madds > 0):
                    yield run


def _is_of_this_machine(hardware: dict[str, Any]) -> bool:
    here = {
        "device": "cpu",
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    return {key: hardware.get(key) for key in here} == here
