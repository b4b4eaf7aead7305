"""How a model is trained: every setting, its default and its bounds, stated once."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from mixcoder.backends.parameters import FlatParameters
from mixcoder.backends.weight_average import WeightAverage
from mixcoder.backends.workload import Workload
from mixcoder.errors import ArgumentError
from mixcoder.loggers import LOGGERS
from mixcoder.models.autoencoder import Autoencoder
from mixcoder.registry.registry import Registry
from mixcoder.training.optimizers import (
    OPTIMIZERS,
    OptimizerName,
    create_optimizers,
    has_vector_learning_rate,
    has_weight_decay,
)
from mixcoder.training.schedules import DECAY_AT, DECAY_SHARE, SCHEDULES, ScheduleName

PositiveInt = Annotated[int, Field(gt=0)]
Duration = Annotated[int, Field(gt=0, le=10**12)]
Share = Annotated[float, Field(gt=0, lt=1)]
_OWNERS = {"decay_share": "wsd", "decay_at": "step"}
"""Settings of one schedule, by its name."""
DURATIONS = ("inputs", "steps", "epochs")


def _state_one_duration(schema: dict[str, Any]) -> None:
    """Adds to a JSON Schema what `Recipe` checks: one duration is given, the others are null or left out."""
    nothing = {"type": "null"}
    schema["anyOf"] = [
        {
            "required": [given],
            "properties": {name: {"not": nothing} if name == given else nothing for name in DURATIONS},
        }
        for given in DURATIONS
    ]


class Recipe(BaseModel):
    """The `training:` part of an experiment file, and what `train` takes.

    Exactly one of `inputs`, `steps` and `epochs` states how long to train.
    """

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        json_schema_extra=_state_one_duration,
    )

    batch_size: PositiveInt = Field(default=64, le=1_000_000, description="images of one optimizer step")
    learning_rate: float = Field(
        default=0.001, gt=0, le=1e30, description="at its highest, after the warm-up"
    )
    optimizer: OptimizerName = Field(
        default="adamw",
        description="`adam` is adamw without weight decay; `sgd` has Nesterov momentum 0.9; `muon` is "
        "for weights with two or more axes, with adamw for the rest",
    )
    vector_learning_rate: float | None = Field(
        default=None,
        gt=0,
        le=1e30,
        description="of what `muon` leaves to adamw, at its highest; `null` takes `learning_rate`",
    )
    weight_decay: float | None = Field(
        default=None, ge=0, le=1e30, description="`null` takes the optimizer's own default"
    )
    clip_norm: float | None = Field(
        default=None,
        gt=0,
        le=1e30,
        description="the largest norm of all gradients together, which are scaled down to it; `null` for any",
    )
    ema: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="decay a step of a moving average of the weights, such as 0.999; validations and the "
        "trained model then have the average; `null` for none",
    )
    schedule: ScheduleName = Field(
        default="cosine",
        description="of the learning rate after the warm-up; `cosine` and `linear` fall to zero, "
        "`wsd` stays and then falls to zero on a line, `step` falls to a tenth now and then",
    )
    decay_share: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description=f"the share of the run in which `wsd` falls; `null` is {DECAY_SHARE}",
    )
    decay_at: list[Share] | None = Field(
        default=None,
        min_length=1,
        description=f"the shares of the run after which `step` falls to a tenth; `null` is {list(DECAY_AT)}",
    )
    warmup_steps: int = Field(
        default=0, ge=0, description="steps over which the learning rate rises linearly"
    )
    loss: Literal["mse", "l1", "huber"] = Field(
        default="mse", description="averaged over all pixels: squared, absolute or Huber's"
    )
    inputs: Duration | None = Field(default=None, description="images to train on, counting repetitions")
    steps: Duration | None = Field(default=None, description="optimizer steps to train for")
    epochs: Duration | None = Field(default=None, description="times to go through the training images")
    validations: PositiveInt = Field(
        default=20, description="how often to validate, evenly spread, the last time at the end"
    )
    seed: int = Field(default=0, ge=0, le=2**63 - 1, description="of the weights and of the order of images")

    compile: Literal["auto", "on", "off"] = Field(
        default="auto", description="the training step to machine code: `auto` where it saves time"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="of matrix products and convolutions: `auto` takes bfloat16 where it is faster",
    )

    log: list[str] = Field(
        default=[], description="loggers beside `metrics.jsonl`, such as `tensorboard`; changes no result"
    )

    @field_validator("optimizer")
    @classmethod
    def _known_optimizer(cls, name: str) -> str:
        _check_known(OPTIMIZERS, name)
        return name

    @field_validator("vector_learning_rate")
    @classmethod
    def _has_a_rate_for_vectors(cls, rate: float | None, info: ValidationInfo) -> float | None:
        name = info.data.get("optimizer")
        if rate is not None and name is not None and not has_vector_learning_rate(name):
            raise ValueError(f"is for optimizers that treat vectors apart, such as muon, not for {name}")
        return rate

    @field_validator("weight_decay")
    @classmethod
    def _has_a_decay(cls, decay: float | None, info: ValidationInfo) -> float | None:
        name = info.data.get("optimizer")
        if decay and name is not None and not has_weight_decay(name):
            raise ValueError(f"is not for {name}; adamw has one")
        return decay

    @field_validator("schedule")
    @classmethod
    def _known_schedule(cls, name: str) -> str:
        _check_known(SCHEDULES, name)
        return name

    @field_validator("decay_share", "decay_at")
    @classmethod
    def _is_for_its_schedule(cls, value: Any, info: ValidationInfo) -> Any:
        owner, schedule = _OWNERS[str(info.field_name)], info.data.get("schedule")
        if value is not None and schedule not in (None, owner):
            raise ValueError(f"is for the schedule {owner} alone, not for {schedule}")
        return value

    @field_validator("log")
    @classmethod
    def _known_loggers(cls, names: list[str]) -> list[str]:
        for name in names:
            _check_known(LOGGERS, name)
            if names.count(name) > 1:
                raise ValueError(f"names '{name}' twice")
        return names

    @model_validator(mode="after")
    def _one_duration(self) -> Recipe:
        given = [name for name in DURATIONS if getattr(self, name) is not None]
        if len(given) != 1:
            found = f"found {' and '.join(given)}" if given else "found none"
            raise ValueError(f"needs exactly one of inputs, steps and epochs, {found}")
        return self

    def create_optimizers(self, parameters: FlatParameters) -> list[torch.optim.Optimizer]:
        """Returns the optimizers that together train all parameters."""
        settings = {
            "weight_decay": self.weight_decay,
            "vector_learning_rate": self.vector_learning_rate,
        }
        given = {key: value for key, value in settings.items() if value is not None}
        return create_optimizers(parameters, self.optimizer, self.learning_rate, **given)

    def create_average(self, parameters: FlatParameters) -> WeightAverage | None:
        """Returns the moving average of the weights; None where the recipe wants none."""
        return None if self.ema is None else WeightAverage(parameters.vector.detach(), self.ema)

    def workload(self, model: Autoencoder, madds: int, total_inputs: int, device: torch.device) -> Workload:
        """Returns what the choice of a backend follows from.

        Args:
            model: to be trained.
            madds: multiply-adds of one image, forward.
            total_inputs: images of the whole run.
            device: to train on.
        """
        batch_size = self.batch_size
        return Workload(model, madds, batch_size, total_inputs, device, self.compile, self.precision)

    def total_steps(self, training_images: int) -> int:
        """Returns the optimizer steps of the whole run; the inputs are rounded up to whole batches."""
        if self.steps is not None:
            return self.steps
        inputs = self.inputs if self.inputs is not None else (self.epochs or 0) * training_images
        return -(-inputs // self.batch_size)


def _check_known(registry: Registry[Any], name: str) -> None:
    """Checks that a name is registered.

    Raises:
        ValueError: it is not; pydantic makes it the problem of a key.
    """
    try:
        _ = registry[name]
    except ArgumentError as error:
        raise ValueError(error.message) from None
