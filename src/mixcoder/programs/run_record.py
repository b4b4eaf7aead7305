"""The run directory of a training in a Python program.

    model, data, recipe ─▶ Run ─┬─ done ────▶ its weights, its losses
                                └─ not yet ─▶ steps, from the last checkpoint on; metrics, checkpoints, result

The same call with the same weights to begin with is the same run.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from pathlib import Path
from typing import Protocol

from mixcoder.data.split import ImageData
from mixcoder.experiments.file.data_paths import Choice
from mixcoder.experiments.file.spec import Run, stated_run
from mixcoder.experiments.runs.memory_check import reraise_oom
from mixcoder.experiments.runs.model_files import hash_weights, load_model
from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.experiments.runs.run_loggers import check_loggers
from mixcoder.experiments.runs.training_run import recorded, recording_failure
from mixcoder.programs.saving import describe_model
from mixcoder.registry.signatures import check_path
from mixcoder.training.training_loop import Progress, TrainingLoop


class TrainingRecord(Protocol):
    """What is kept of a training, beside the weights of its model.

    Attributes:
        folder: where; None where nothing is kept.
    """

    folder: Path | None

    def steps(self, loop: TrainingLoop) -> Generator[Progress, None, None]:
        """Yields the progress of the steps that are left; keeps it. Closed before the end, all is kept."""

    def earlier(self, first: Progress | None) -> list[Progress]:
        """Returns the progress before `first`, of earlier calls; all of it where nothing was left."""


class NoRecord:
    """A record of nothing."""

    folder: Path | None = None

    def steps(self, loop: TrainingLoop) -> Generator[Progress, None, None]:
        yield from loop.run()

    def earlier(self, first: Progress | None) -> list[Progress]:
        return []


class RunRecord:
    """A record in a run directory, as commands know it.

    Args:
        loop: not begun.
        runs: the folder of all runs.
        name: of the experiment.

    Raises:
        ArgumentError: `create_model` did not make the model, a logger cannot work here, or the name is none.
    """

    def __init__(self, loop: TrainingLoop, runs: str | Path, name: str) -> None:
        training = loop.recipe.model_dump()
        model, weights = describe_model(loop.model), hash_weights(loop.model)
        self.run: Run = stated_run(name, _data_choice(loop.data), model, training, weights)
        check_loggers(self.run)
        self.directory = RunDirectory.of(self.run, check_path("runs", runs, "the folder of all runs"))
        self.folder: Path | None = self.directory.path

    def steps(self, loop: TrainingLoop) -> Generator[Progress, None, None]:
        started = time.perf_counter()
        with self.directory.locked():
            if self.directory.read_result() is not None:
                loop.model.load_state_dict(load_model(self.directory.path).state_dict())
                return
            with recording_failure(self.directory), reraise_oom(self.run):
                yield from recorded(self.run, loop, self.directory, started)

    def earlier(self, first: Progress | None) -> list[Progress]:
        return [
            Progress(
                step=row["step"],
                inputs=row["inputs"],
                training_loss=row["training_loss"],
                learning_rate=row.get("learning_rate", 0.0),
                validation_loss=row.get("validation_loss"),
                throughput=0.0,
            )
            for row in self.directory.read_metrics()
            if first is None or row["step"] < first.step
        ]


def _data_choice(data: ImageData) -> Choice:
    """Returns the data source of data, and its arguments; `memory` of what no other source made."""
    if data.made_as is not None:
        source, arguments = data.made_as
        return source, dict(arguments)
    stated = {"name": data.name, "image_shape": list(data.image_shape)}
    return "memory", {**stated, "sha256": data.content_hash(), "count": len(data.train)}
