"""The loggers of one run.

    row, images, result ─▶ each logger that works ─▶ a file, a service, …
                           └─ one that fails is named and left out

No logger changes the training: torch's random state and the model's mode are kept.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from mixcoder.data import ImageSplit, to_float
from mixcoder.errors import ArgumentError, MixcoderError, first_line
from mixcoder.experiments.file.spec import Run
from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.loggers import LOGGERS, Logger
from mixcoder.loggers.logger import Row
from mixcoder.models import Autoencoder
from mixcoder.text.sanitize import sanitize_lines
from mixcoder.training.evaluation import evaluating, keeping_random_state

IMAGES = 8
"""The number of validation images that loggers receive."""


def check_loggers(run: Run) -> None:
    """Checks that the loggers of a run can work here.

    Raises:
        ArgumentError: one cannot; names the logger and what it needs.
    """
    for name in run.recipe.log:
        try:
            LOGGERS[name].check()
        except MixcoderError:
            raise
        except Exception as error:  # of a plugin's own
            message = f"{name} cannot be used here ({first_line(error)})"
            raise ArgumentError("training.log", message) from error


class RunLogs:
    """A set of the loggers of one run that work. One that fails is named once, on stderr, and left out.

    Args:
        run: names the loggers.
        directory: holds the metrics so far.
        device: the device of the training.
    """

    def __init__(self, run: Run, directory: RunDirectory, device: torch.device) -> None:
        self._device = device
        self._loggers: dict[str, Logger] = {}
        settings = {key: value for key, value in run.settings().items() if key != "training.log"}
        rows = directory.read_metrics()
        for name in run.recipe.log:
            with self._isolated(name):
                self._loggers[name] = LOGGERS[name](directory.path, settings, rows)

    def log(self, row: Row) -> None:
        """Logs a row of metrics."""
        for name, logger in self._working():
            with self._isolated(name):
                logger.log(row)

    def show(self, inputs: int, model: Autoencoder, split: ImageSplit) -> None:
        """Logs the first images of `split` with their reconstructions, after so many inputs."""
        if not self._loggers:
            return
        with evaluating(model, split.device):
            images = to_float(split.images[:IMAGES])
            reconstructions = model(images).clamp(0, 1)
        for name, logger in self._working():
            with self._isolated(name):  # each has its own: inference tensors cannot be written to
                logger.images(inputs, images.cpu().clone(), reconstructions.cpu().clone())

    def finish(self, result: Mapping[str, Any]) -> None:
        """Logs the result of the run."""
        for name, logger in self._working():
            with self._isolated(name):
                logger.finish(result)

    def _working(self) -> list[tuple[str, Logger]]:
        """Returns the loggers that have not failed so far, by name."""
        return list(self._loggers.items())

    @contextmanager
    def _isolated(self, name: str) -> Iterator[None]:
        """Context in which a logger that fails is reported and left out; the training is as without it."""
        try:
            with keeping_random_state(self._device):
                yield
        except Exception as error:  # a full disk, a service that is down, a bug of a plugin
            reason = f"{type(error).__name__}: {first_line(error)}"
            what = f"{name} failed and is left out from here on, metrics.jsonl has everything"
            print(sanitize_lines(f"training.log: {what} ({reason})"), file=sys.stderr)
            self._loggers.pop(name, None)
