"""Trains a model.

    TrainingBatches[step] ─▶ images (B, C, H, W) uint8 ─▶ step ─▶ loss ─▶ every few steps: Progress
                                                                      ├─ training loss (mean since the last)
                                                                      └─ validation loss, at its times

The loop writes nothing and shows nothing: it yields `Progress`, and its caller decides what to log, when
to save a checkpoint and when to stop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from mixcoder.backends.backend import choose_backend
from mixcoder.backends.parameters import FlatParameters, trained_parameters
from mixcoder.backends.step import StepSpec, TrainingStep
from mixcoder.data.split import ImageData, TrainingBatches
from mixcoder.errors import ArgumentError, DataError, DivergenceError
from mixcoder.models.autoencoder import Autoencoder
from mixcoder.models.cost import count_madds
from mixcoder.training.checkpoint import (
    CheckpointState,
    check_data,
    check_step_counts,
    keeping_state,
    load_checkpoint,
    optimizer_tensors,
    random_tensors,
    read_state,
    reset_optimizer_state,
    restore_optimizers,
    restore_random,
    save_checkpoint,
)
from mixcoder.training.clock import TrainingClock
from mixcoder.training.drawn_refinement import build_for_each_count, draw_steps, drawing_steps
from mixcoder.training.evaluation import validation_loss
from mixcoder.training.optimizers import set_learning_rate
from mixcoder.training.ranks import ALONE, Ranks
from mixcoder.training.recipe import Recipe
from mixcoder.training.schedules import learning_rate_at

_LARGEST_CHUNK = 25
"""Steps between two looks at the losses; more would delay a Ctrl-C."""
_CHUNKS_A_RUN = 400


@dataclass(frozen=True)
class Progress:
    """Where a run stands after a few more steps.

    Attributes:
        step: steps done.
        inputs: images seen.
        training_loss: mean over the steps since the last Progress.
        learning_rate: of the last step.
        validation_loss: over the whole validation set, after steps at which it is computed, else None.
        throughput: training images per second so far.
    """

    step: int
    inputs: int
    training_loss: float
    learning_rate: float
    validation_loss: float | None
    throughput: float


class TrainingLoop:
    """One training run of one model on one data set.

    Args:
        model: is trained in place; on the device of the data.
        data: images of the model's shape.
        recipe: how to train.
        ranks: the processes that train the model together, of which this is one.

    Attributes:
        between_validation_batches: called while it validates; what it raises ends the run.
        rate_factor: of the learning rates that the recipe states, for steps from now on.
        backend: how steps are computed; certain from the first Progress on.

    Raises:
        ArgumentError: model, data and recipe do not fit each other.
    """

    def __init__(self, model: Autoencoder, data: ImageData, recipe: Recipe, ranks: Ranks = ALONE) -> None:
        self.model = model
        self.data = data
        self.recipe = recipe
        self.ranks = ranks
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
        self.rate_factor = 1.0
        self.clock = TrainingClock()
        self.between_validation_batches: Callable[[], None] = lambda: None
        workload = recipe.workload(model, count_madds(model), self.total_inputs, data.validation.device)
        shard = ranks.shard(recipe.batch_size)
        shard_size = shard.stop - shard.start
        self._weight = shard_size / recipe.batch_size
        self.backend = choose_backend(workload.shard(shard_size))
        self._parameters = FlatParameters(model)
        self.optimizers = recipe.create_optimizers(self._parameters)
        self._average = recipe.create_average(self._parameters)
        self._batches = TrainingBatches(data.train, recipe.batch_size, recipe.seed, shard)
        self._chunk_size = min(_LARGEST_CHUNK, -(-self.total_steps // _CHUNKS_A_RUN))
        self._is_cold = True

    def run(self) -> Iterator[Progress]:
        """Trains from the present step to the last; yields its progress.

        Raises:
            DivergenceError: the loss is no longer finite; says at which step and what to try.
        """
        if self.step >= self.total_steps:  # nothing to compile for
            return
        if not self.model.training:  # submodules in evaluation mode stay so, as a frozen norm
            self.model.train()
        with self.clock.measure(0, warmup=True):
            train_step = self.create_step()
        while self.step < self.total_steps:
            first_step, last_step = self.step, self._chunk_end()
            losses = self._train_chunk(train_step, last_step)
            self._check_losses(losses, first_step)
            yield Progress(
                step=self.step,
                inputs=self.inputs,
                training_loss=losses.double().mean().item(),
                learning_rate=self._learning_rate_at(self.step - 1),
                validation_loss=self.validate(self.ranks) if self._is_validation_step(self.step) else None,
                throughput=self.clock.throughput,
            )

    @cached_property
    def data_hash(self) -> str:
        """Identifies the images: `ImageData.content_hash`."""
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
        """Writes a checkpoint, from which `restore` goes on to the last bit.

        Raises:
            WriteError: the file cannot be written.
        """
        state = CheckpointState(step=self.step, clock=self.clock, data_hash=self.data_hash)
        save_checkpoint(path, self._tensors(), state)

    def restore(self, path: Path) -> None:
        """Restores the state of when `save` was called.

        Raises:
            RunDirectoryError: the checkpoint is damaged, of another run or of other images; the loop is
                then as before.
        """
        state = read_state(path, self.total_steps)
        check_data(path, state, self.data_hash)
        with keeping_state(self.optimizers):
            reset_optimizer_state(self.optimizers, state.step)
            tensors = load_checkpoint(path, self._tensors())
            check_step_counts(path, tensors, state.step)
            restore_random(path, tensors)  # the last that may fail
        self.model.load_state_dict({name: tensors[f"model.{name}"] for name in self.model.state_dict()})
        restore_optimizers(self.optimizers, tensors)
        for name, value in self._average_tensors().items():
            value.copy_(tensors[name])
        self._set_step(state.step)
        self.clock = state.clock

    def evaluated_weights(self) -> AbstractContextManager[None]:
        """Context in which the model has the weights that are evaluated: with `ema`, their moving average."""
        return self._average.applied() if self._average else nullcontext()

    def keep_evaluated_weights(self) -> None:
        """Gives the model the weights that are evaluated, for good."""
        if self._average:
            self._average.apply()

    def share_state(self) -> None:
        """Brings all ranks to the step and the tensors of the first.

        Raises:
            DataError: a rank has other images than the first.
        """
        if self.ranks.count == 1:
            return
        has_same_images = self.ranks.is_same(self.data_hash)
        with self.ranks.together():
            if not has_same_images:
                raise DataError(
                    f"{self.data.name}: the images of this process are not those of the first one"
                )
        self._set_step(self.ranks.from_first(self.step))
        if not self.ranks.is_first:
            reset_optimizer_state(self.optimizers, self.step)
        self.ranks.broadcast(self._learned_tensors().values())

    def create_step(self) -> TrainingStep:
        """Returns the step that `run` takes, compiled now where it is to be."""
        images = self._batches[self.step]
        spec = StepSpec(
            self.model,
            self._parameters,
            self.recipe.loss,
            images,
            self.optimizers,
            reduction=self.ranks.reduction(self._weight),
            clip_norm=self.recipe.clip_norm,
            average=self._average,
        )
        step, self.backend = build_for_each_count(spec, self.backend)
        return step

    def _learning_rate_at(self, step: int) -> float:
        return self.rate_factor * learning_rate_at(step, self.total_steps, self.recipe)

    def _set_step(self, step: int) -> None:
        self.step = step
        if self._average:
            self._average.steps = step

    def _tensors(self) -> dict[str, Tensor]:
        """Returns the tensors of a checkpoint, by name."""
        return {**self._learned_tensors(), **random_tensors()}

    def _learned_tensors(self) -> dict[str, Tensor]:
        """Returns the tensors of a checkpoint that the images make, by name: of model and optimizers."""
        weights = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        return {**weights, **self._average_tensors(), **optimizer_tensors(self.optimizers)}

    def _average_tensors(self) -> dict[str, Tensor]:
        """Returns the moving average of each parameter by its name in a checkpoint."""
        if self._average is None:
            return {}
        names = (f"average.{name}" for name in self._parameters.names)
        return dict(zip(names, self._parameters.split(self._average.vector), strict=True))

    def _train_chunk(self, train_step: TrainingStep, last_step: int) -> Tensor:
        """Trains up to `last_step`; returns the losses (steps,) of these steps, read from the device once."""
        self.ranks.seed(self.recipe.seed, self.step)
        losses = []
        images = (last_step - self.step) * self.recipe.batch_size
        drawing = drawing_steps(self.model)
        with self.clock.measure(images, warmup=self._is_cold), self.backend.threads(), drawing:
            for step in range(self.step, last_step):
                set_learning_rate(self.optimizers, self._learning_rate_at(step))
                draw_steps(self.model, self.recipe.seed, step)
                losses.append(train_step(self._batches[step]))
            stacked = self.ranks.weighted_sum(torch.stack(losses).cpu(), self._weight)
        self.ranks.broadcast(self.model.buffers())  # such as running statistics, each rank's of its images
        self.step = last_step
        self._is_cold = False
        return stacked

    def _chunk_end(self) -> int:
        """Returns the step of the next progress: the end of a chunk, or a validation. A resume moves none."""
        end = min((self.step // self._chunk_size + 1) * self._chunk_size, self.total_steps)
        validations = (step for step in range(self.step + 1, end) if self._is_validation_step(step))
        return next(validations, end)

    def _is_validation_step(self, step: int) -> bool:
        """Returns whether one of the evenly spread validations falls on this step; the last step is one."""
        count = self.recipe.validations
        return step * count // self.total_steps > (step - 1) * count // self.total_steps

    def validate(self, ranks: Ranks = ALONE) -> float:
        """Returns the validation loss of the present weights, which `ranks` compute together.

        Raises:
            DivergenceError: the loss is not finite.
        """
        with self.evaluated_weights():
            loss = validation_loss(
                self.model, self.data.validation, self.recipe.loss, self.between_validation_batches, ranks
            )
        if not math.isfinite(loss):
            raise DivergenceError(self._divergence("validation loss", loss, self.step))
        return loss

    def _check_losses(self, losses: Tensor, first_step: int) -> None:
        bad = torch.nonzero(~torch.isfinite(losses))
        if len(bad):
            index = int(bad[0])
            raise DivergenceError(self._divergence("loss", losses[index].item(), first_step + index + 1))

    def _divergence(self, noun: str, loss: float, step: int) -> str:
        rate = self._learning_rate_at(step - 1)
        return (
            f"the {noun} became {loss} at step {step} with learning rate {rate:.3g}; "
            f"try a smaller learning_rate, such as {self.recipe.learning_rate / 10:.3g}, or some warmup_steps"
        )


def _check_model(model: Autoencoder, device: torch.device) -> None:
    """Checks that a model can be trained on images of a device.

    Raises:
        ArgumentError: it cannot; says why and what to do.
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
