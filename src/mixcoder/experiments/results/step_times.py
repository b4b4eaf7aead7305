"""Seconds of a training step of many networks, measured one after the other on one machine.

    python -m benchmarks.step_times ─▶ file ─▶ StepTimes ─▶ minutes of a run

Minutes that runs state for themselves do not compare: of a machine that did other things too, or of another
machine, as the article's.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, PositiveFloat, ValidationError

from mixcoder.errors import ArgumentError, RunDirectoryError
from mixcoder.experiments.file.spec import Run
from mixcoder.io.json_file import read_json_object
from mixcoder.registry.problems import first_problem

COSTLESS = {
    *("seed", "learning_rate", "vector_learning_rate", "weight_decay", "schedule", "decay_share"),
    *("warmup_steps", "validations", "log"),
}
"""Settings of a recipe that change neither size nor time."""


class StepTime(BaseModel):
    """A measured time.

    Attributes:
        name: of the network, to read.
        seconds: of a step.
        ratio: of these to those of the reference.
    """

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    name: str
    seconds: PositiveFloat
    ratio: PositiveFloat


class StepTimes(BaseModel):
    """A file of times.

    Attributes:
        machine: that measured them.
        threads: of torch.
        reference: name of the network to whose time the ratios are.
        steps: by `step_key`.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    machine: str
    threads: int
    reference: str
    steps: dict[str, StepTime]

    def minutes(self, run: Run) -> float:
        """Returns how long a run trains, without its start and its validations.

        Raises:
            ArgumentError: its steps were not measured.
        """
        measured = self.steps.get(step_key(run))
        if measured is None:
            right = "python -m benchmarks.step_times measures it with its experiment file"
            raise ArgumentError("times", f"has no time of a run of '{run.experiment}'; {right}")
        return measured.seconds * run.total_steps / 60


def step_key(run: Run) -> str:
    """Returns a key that runs share whose steps take equally long."""
    recipe = run.recipe.model_dump(exclude=COSTLESS)
    shape = run.create_source().image_shape
    return hashlib.sha256(repr((tuple(shape), run.model, recipe)).encode()).hexdigest()[:10]


def read_step_times(path: Path) -> StepTimes:
    """Returns the times in a file.

    Raises:
        ArgumentError: the file is missing or damaged.
    """
    try:
        return StepTimes.model_validate(read_json_object(path))
    except RunDirectoryError as error:
        raise ArgumentError("times", str(error)) from error
    except ValidationError as error:
        reason = first_problem(error, StepTimes)
        raise ArgumentError("times", f"{path}: is no file of benchmarks.step_times: {reason}") from error
