"""Training in a Python program: in one call, or as a loop in one's own hands.

    train(model, data, …) ─▶ Trainer ─▶ Progress ─▶ bar, on_progress ─▶ History
    for progress in Trainer(model, data, …): look, break, change a rate

Around a step, the program's own state of torch does not count: gradients are computed, autocast is off.
Between steps it does, and the model is whole.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from mixcoder.backends.parameters import give_own_memory
from mixcoder.data.own_images import images
from mixcoder.data.split import ImageData
from mixcoder.errors import ArgumentError
from mixcoder.experiments.runs.stop_requests import StopRequests
from mixcoder.models.autoencoder import as_autoencoder
from mixcoder.models.modes import keeping_modes, make_trainable
from mixcoder.programs.history import History
from mixcoder.programs.run_record import NoRecord, RunRecord, TrainingRecord
from mixcoder.programs.training_lines import program_progress
from mixcoder.registry.problems import list_problems
from mixcoder.training.recipe import Recipe
from mixcoder.training.training_loop import Progress, TrainingLoop


def train(
    model: nn.Module,
    data: Any,
    *,
    runs: str | Path | None = None,
    name: str = "program",
    on_progress: Callable[[Progress], object] | None = None,
    show: bool | None = None,
    **settings: Any,
) -> History:
    """Trains `model` in place on `data`; returns how that went.

    Ctrl-C ends the training after a whole step, and what was trained until then stays. Gradients are computed
    also where the caller has switched them off; the model's training modes are restored.

    Args:
        model: takes images of the data's shape; float32, on the device of the data.
        data: as `load_data` or `images` gives it, or what `images` takes, such as an array.
        runs: a folder of runs: the training is a run in it, which every command knows. The same call goes on
            where that was interrupted, and trains nothing where it is done.
        name: of the experiment, and so of the run's folder in `runs`.
        on_progress: called with a `Progress` every few steps.
        show: whether to show a bar; by default on a terminal and in a notebook.
        settings: of `Recipe`, such as `learning_rate=0.003, inputs=100_000`. Here `seed` is that of the order
            of images and of their crops. Weights are the model's own: call `torch.manual_seed` before
            `create_model` to repeat them.

    Raises:
        ArgumentError: an unknown or impossible setting, or model and data do not fit each other.
        TrainingError: the loss is no longer finite.
    """
    _check_flag("show", show)
    trainer = Trainer(model, data, runs=runs, name=name, **settings)
    with (
        program_progress(show) as show_progress,
        closing(iter(trainer)) as steps,
        StopRequests((signal.SIGINT,)) as requests,
    ):
        try:
            for progress in steps:
                requests.defer()
                show_progress(trainer.loop, progress)
                if on_progress is not None:
                    on_progress(progress)
                if requests.is_pending:
                    raise _Stopped
        except _Stopped:
            return trainer.ended(was_interrupted=True)
    return trainer.ended()


class Trainer:
    """A training as a loop in your own hands.

        trainer = mixcoder.Trainer(model, data, learning_rate=0.003, inputs=100_000)
        for progress in trainer:
            if progress.validation_loss is not None and progress.validation_loss < 0.01:
                break

    Every few steps, it yields a `Progress`. The model is trained in place, and can be used between steps.
    After the last step, or a `break`, it is in the modes that it had before; another loop is another Trainer.

    Args:
        model: takes images of the data's shape; float32, on the device of the data.
        data: as `load_data` or `images` gives it, or what `images` takes, such as an array.
        runs: as for `train`; also after a `break`, another Trainer goes on.
        name: as for `train`.
        settings: as for `train`.

    Attributes:
        loop: that computes the steps.

    Raises:
        ArgumentError: an unknown or impossible setting, or model and data do not fit each other.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Any,
        *,
        runs: str | Path | None = None,
        name: str = "program",
        **settings: Any,
    ) -> None:
        recipe, self._model = _recipe(settings, has_directory=runs is not None), as_autoencoder(model)
        data = data if isinstance(data, ImageData) else images(data)
        self._device_type = data.validation.device.type
        self._progress: list[Progress] = []
        with ExitStack() as opening:
            opening.callback(give_own_memory, self._model)
            opening.enter_context(keeping_modes(self._model))
            with self._computing():
                make_trainable(self._model)
                self.loop = TrainingLoop(self._model, data, recipe)
            self._record: TrainingRecord = NoRecord() if runs is None else RunRecord(self.loop, runs, name)
            self._open = opening.pop_all()

    @property
    def learning_rate(self) -> float:
        """The learning rate at its highest, which the schedule follows; it may be changed between steps."""
        return self.loop.rate_factor * self.loop.recipe.learning_rate

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        if not isinstance(rate, int | float) or isinstance(rate, bool) or not 0 < rate < float("inf"):
            raise ArgumentError("learning_rate", "must be a number above 0")
        if self._record.folder is not None:
            raise ArgumentError(
                "learning_rate", "of a run is that of its settings; leave out `runs` to change it"
            )
        self.loop.rate_factor = rate / self.loop.recipe.learning_rate

    @property
    def history(self) -> History:
        """How the training went so far.

        Raises:
            ArgumentError: it has not begun.
        """
        return self.ended()

    def evaluated_weights(self) -> AbstractContextManager[None]:
        """Context in which the model has the weights that are validated: with `ema`, their moving average."""
        return self.loop.evaluated_weights()

    def ended(self, *, was_interrupted: bool = False) -> History:
        """Returns how the training went.

        Args:
            was_interrupted: whether Ctrl-C ended it.

        Raises:
            ArgumentError: it has not begun.
        """
        if not self._progress:
            raise ArgumentError("", "the training has not begun")
        execution = str(self.loop.backend)
        return History(tuple(self._progress), was_interrupted, execution, self._record.folder)

    def __iter__(self) -> Generator[Progress]:
        """Yields the progress of the steps.

        Raises:
            ArgumentError: the training has ended already.
            TrainingError: the loss is no longer finite.
            KeyboardInterrupt: after a whole step, for a Ctrl-C while it was computed.
        """
        if self._progress:
            raise ArgumentError("", f"has ended after {self.loop.step} steps; make another Trainer")
        with self._open:
            try:
                with closing(self._record.steps(self.loop)) as steps:
                    while (progress := self._next(steps)) is not None:
                        yield progress
            except (GeneratorExit, _Stopped):  # of a `break`, of Ctrl-C
                self.loop.keep_evaluated_weights()
                raise
            self.loop.keep_evaluated_weights()

    def _next(self, steps: Iterator[Progress]) -> Progress | None:
        """Returns the progress of the next few steps; None after the last one.

        Raises:
            _Stopped: Ctrl-C was pressed meanwhile.
        """
        with StopRequests((signal.SIGINT,)) as requests:
            if self._progress:  # before that there is nothing to lose
                requests.defer()
            with self._computing():
                progress = next(steps, None)
            if not self._progress:
                self._progress += self._record.earlier(progress)
            if progress is not None:
                self._progress.append(progress)
            if requests.is_pending:
                raise _Stopped
        return progress

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """Context in which gradients can be computed, whatever the program has switched off."""
        no_autocast = torch.autocast(self._device_type, enabled=False)
        with torch.inference_mode(False), torch.enable_grad(), no_autocast:
            yield


class _Stopped(KeyboardInterrupt):
    """A Ctrl-C, seen after a whole step."""


def _recipe(settings: dict[str, Any], *, has_directory: bool) -> Recipe:
    """Returns the recipe of a Python caller's settings.

    Raises:
        ArgumentError: one is unknown, impossible, or needs a run directory.
    """
    try:
        recipe = Recipe(**settings)
    except ValidationError as error:
        for path, message in list_problems(error, Recipe):
            raise ArgumentError(".".join(map(str, path)), message) from None
        raise
    if recipe.log and not has_directory:
        raise ArgumentError("log", "needs a run directory; state the folder of runs, such as runs='runs'")
    return recipe


def _check_flag(argument: str, value: object) -> None:
    if value is not None and not isinstance(value, bool):
        raise ArgumentError(argument, "must be True, False or None")
