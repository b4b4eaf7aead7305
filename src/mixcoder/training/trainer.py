"""Trains a model.

    TrainingBatches[step] ─▶ images (B, C, H, W) uint8 ─▶ step ─▶ loss ─▶ every few steps: Progress
                                                                      ├─ training loss (mean since the last)
                                                                      └─ validation loss, at its times

The trainer writes nothing and shows nothing: it yields `Progress`, and whoever drives it decides what to
log, when to save a checkpoint and when to stop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from mixcoder.backends.backend import choose_execution, create_gradients
from mixcoder.backends.parameters import FlatParameters, give_own_memory, trained_parameters
from mixcoder.backends.step import TrainingStep, create_step
from mixcoder.data.split import ImageData, TrainingBatches
from mixcoder.errors import ArgumentError, TrainingError, describe_type
from mixcoder.models.autoencoder import Autoencoder, as_autoencoder
from mixcoder.models.modes import keeping_modes, make_trainable
from mixcoder.registry.problems import list_problems
from mixcoder.training.checkpoint import (
    CheckpointState,
    check_data,
    check_step_counts,
    give_state,
    keeping_state,
    load_checkpoint,
    optimizer_tensors,
    random_tensors,
    read_state,
    restore_optimizers,
    restore_random,
    save_checkpoint,
)
from mixcoder.training.clock import TrainingClock
from mixcoder.training.evaluation import validation_loss
from mixcoder.training.optimizers import create_optimizers, set_learning_rate
from mixcoder.training.recipe import Recipe
from mixcoder.training.schedules import learning_rate_at

_LARGEST_CHUNK = 25
_CHUNKS_A_RUN = 400


def train(model: nn.Module, data: ImageData, **settings: Any) -> Progress:
    """Trains `model` in place on `data` and says where it ended.

    Gradients are computed whatever the program around us switched off; the model's training modes are
    afterwards as before.

    Args:
        model: takes images of the data's shape; float32, on the device of the data.
        data: uint8 images, such as `load_data` gives.
        settings: of `Recipe`, such as `learning_rate=0.003, inputs=100_000`. Here `seed` is that of the order
            of images and of their crops; weights are the model's own: `torch.manual_seed` before
            `create_model` makes them again.

    Raises:
        ArgumentError: an unknown or impossible setting, or model and data do not fit each other.
        TrainingError: the loss is no longer finite.
    """
    recipe, inner = _recipe(settings), as_autoencoder(model)
    if not isinstance(data, ImageData):
        raise ArgumentError(
            "",
            f"data must be mixcoder.ImageData, such as load_data gives, got {describe_type(data)}; "
            'ImageData("mine", ImageSplit(training_images), ImageSplit(validation_images)) makes it',
        )
    no_autocast = torch.autocast(data.validation.device.type, enabled=False)
    try:
        with keeping_modes(inner), torch.inference_mode(False), torch.enable_grad(), no_autocast:
            make_trainable(inner)
            *_, last = Trainer(inner, data, recipe).run()
    finally:
        give_own_memory(inner)
    return last


def _recipe(settings: dict[str, Any]) -> Recipe:
    """The recipe of a Python caller's settings.

    Raises:
        ArgumentError: one is unknown, impossible, or for experiment files alone.
    """
    try:
        recipe = Recipe(**settings)
    except ValidationError as error:
        for path, message in list_problems(error, Recipe):
            raise ArgumentError(".".join(map(str, path)), message) from None
        raise
    if recipe.log:
        raise ArgumentError("log", "needs a run directory, which mixcoder run makes; leave it out here")
    return recipe


@dataclass(frozen=True)
class Progress:
    """Where a run stands after a few more steps.

    Attributes:
        step: steps done.
        inputs: images seen.
        training_loss: mean over the steps since the last Progress.
        learning_rate: of the last step.
        validation_loss: over the whole validation set, where it was its time, else None.
        throughput: training images per second so far.
    """

    step: int
    inputs: int
    training_loss: float
    learning_rate: float
    validation_loss: float | None
    throughput: float


class Trainer:
    """One training run of one model on one data set.

    Args:
        model: is trained in place; on the device of the data.
        data: images of the model's shape.
        recipe: how to train.

    Attributes:
        between_validation_batches: called while it validates; what it raises ends the run.
        execution: how steps are computed; certain from the first Progress on.

    Raises:
        ArgumentError: model, data and recipe do not fit each other.
    """

    def __init__(self, model: Autoencoder, data: ImageData, recipe: Recipe) -> None:
        self.model = model
        self.data = data
        self.recipe = recipe
        _check_model(model, data.validation.device)
        self.total_steps = recipe.total_steps(len(data.train))
        if recipe.warmup_steps >= self.total_steps:
            raise ArgumentError(
                "warmup_steps",
                f"{recipe.warmup_steps} steps of warm-up leave nothing of a run of {self.total_steps}",
            )
        if data.image_shape != model.image_shape:
            raise ArgumentError(
                "image_shape", f"the model takes {model.image_shape}, {data.name} has {data.image_shape}"
            )
        self.step = 0
        self.clock = TrainingClock()
        self.between_validation_batches: Callable[[], None] = lambda: None
        self.execution = choose_execution(model, recipe, self.total_inputs, data.validation.device)
        self._parameters = FlatParameters(model)
        self.optimizers = create_optimizers(self._parameters, recipe)
        self._batches = TrainingBatches(data.train, recipe.batch_size, recipe.seed)
        self._chunk_size = min(_LARGEST_CHUNK, -(-self.total_steps // _CHUNKS_A_RUN))
        self._is_cold = True

    def run(self) -> Iterator[Progress]:
        """Trains from where the trainer stands to the end, and says how it goes.

        Raises:
            TrainingError: the loss is no longer finite; says at which step and what to try.
        """
        if self.step >= self.total_steps:  # nothing to compile for
            return
        if not self.model.training:  # else parts that are in evaluation mode are meant to be
            self.model.train()
        with self.clock.measure(0, warmup=True):
            train_step = self.create_step()
        while self.step < self.total_steps:
            first_step, last_step = self.step, self._chunk_end()
            losses = self._train_chunk(train_step, last_step)
            self._refuse_bad_losses(losses, first_step)
            yield Progress(
                step=self.step,
                inputs=self.inputs,
                training_loss=losses.double().mean().item(),
                learning_rate=learning_rate_at(self.step - 1, self.total_steps, self.recipe),
                validation_loss=self.validate() if self._is_validation_step(self.step) else None,
                throughput=self.clock.throughput,
            )

    @cached_property
    def data_hash(self) -> str:
        """Which images these are: `ImageData.content_hash`."""
        return self.data.content_hash()

    @property
    def inputs(self) -> int:
        """Images seen so far."""
        return self.step * self.recipe.batch_size

    @property
    def total_inputs(self) -> int:
        """Images seen when the run is over."""
        return self.total_steps * self.recipe.batch_size

    def save(self, path: Path) -> None:
        """Writes all that `restore` needs to go on to the last bit.

        Raises:
            WriteError: the file cannot be written.
        """
        state = CheckpointState(step=self.step, clock=self.clock, data_hash=self.data_hash)
        save_checkpoint(path, self._tensors(), state)

    def restore(self, path: Path) -> None:
        """Goes back to where `save` was called.

        Raises:
            RunDirectoryError: it is damaged, of another run or of other images; all is as before then.
        """
        state = read_state(path, self.total_steps)
        check_data(path, state, self.data_hash)
        with keeping_state(self.optimizers):
            give_state(self.optimizers, state.step)
            tensors = load_checkpoint(path, self._tensors())
            check_step_counts(path, tensors, state.step)
            restore_random(path, tensors)  # may still refuse; the rest cannot
        self.model.load_state_dict({name: tensors[f"model.{name}"] for name in self.model.state_dict()})
        restore_optimizers(self.optimizers, tensors)
        self.step, self.clock = state.step, state.clock

    def create_step(self) -> TrainingStep:
        """The step that `run` takes, compiled now where it is to be; takes images (B, C, H, W) uint8."""
        gradients_of, self.execution = create_gradients(
            self.execution, self.model, self._parameters, self.recipe.loss, self._batches[self.step]
        )
        return create_step(gradients_of, self._parameters, self.optimizers)

    def _tensors(self) -> dict[str, Tensor]:
        """All that a checkpoint holds but step and clock."""
        weights = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        return {**weights, **optimizer_tensors(self.optimizers), **random_tensors()}

    def _train_chunk(self, train_step: TrainingStep, last_step: int) -> Tensor:
        """Trains up to `last_step`; the losses (steps,) of the steps on the way, read once at the end."""
        losses = []
        images = (last_step - self.step) * self.recipe.batch_size
        with self.clock.measure(images, warmup=self._is_cold), self.execution.threads():
            for step in range(self.step, last_step):
                set_learning_rate(self.optimizers, learning_rate_at(step, self.total_steps, self.recipe))
                losses.append(train_step(self._batches[step]))
            stacked = torch.stack(losses).cpu()
        self.step = last_step
        self._is_cold = False
        return stacked

    def _chunk_end(self) -> int:
        """The next step at which to look up: the end of a chunk or a validation. Not moved by a resume."""
        end = min((self.step // self._chunk_size + 1) * self._chunk_size, self.total_steps)
        validations = (step for step in range(self.step + 1, end) if self._is_validation_step(step))
        return next(validations, end)

    def _is_validation_step(self, step: int) -> bool:
        """Whether the k-th of the evenly spread validations falls on this step; the last step is one."""
        count = self.recipe.validations
        return step * count // self.total_steps > (step - 1) * count // self.total_steps

    def validate(self) -> float:
        """The validation loss of now.

        Raises:
            TrainingError: it is not finite.
        """
        loss = validation_loss(
            self.model, self.data.validation, self.recipe.loss, self.between_validation_batches
        )
        if not math.isfinite(loss):
            raise TrainingError(self._divergence("validation loss", loss, self.step))
        return loss

    def _refuse_bad_losses(self, losses: Tensor, first_step: int) -> None:
        bad = torch.nonzero(~torch.isfinite(losses))
        if len(bad):
            index = int(bad[0])
            raise TrainingError(self._divergence("loss", losses[index].item(), first_step + index + 1))

    def _divergence(self, noun: str, loss: float, step: int) -> str:
        rate = learning_rate_at(step - 1, self.total_steps, self.recipe)
        return (
            f"the {noun} became {loss} at step {step} with learning rate {rate:.3g}; "
            f"try a smaller learning_rate, such as {self.recipe.learning_rate / 10:.3g}, or some warmup_steps"
        )


def _check_model(model: Autoencoder, device: torch.device) -> None:
    """Refuses a model that cannot be trained on images of a device.

    Raises:
        ArgumentError: says what is in the way and what to do.
    """
    if not trained_parameters(model):
        raise ArgumentError(
            "", "the model has nothing to train: no parameter, or all are frozen; see requires_grad_(True)"
        )
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if tensor.device != device:
            raise ArgumentError(
                "",
                f"the model's {name} is on {tensor.device}, the images are on {device}; "
                "bring both to one device with model.to(device) and data.to(device)",
            )
