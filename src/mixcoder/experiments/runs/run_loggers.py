"""The loggers of one run.

    row, images, result ─▶ each logger that works ─▶ a file, a service, …
                           └─ one that fails is named and left out

No logger changes the training: torch's random state and the model's mode are kept.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
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
"""Validation images that the loggers are shown."""


def check_loggers(run: Run) -> None:
    """Refuses a run whose loggers cannot work here.

    Raises:
        ArgumentError: names the logger and what it needs.
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
    """The loggers of one run that work. One that fails is named once, on stderr, and left out.

    Args:
        run: names them.
        directory: holds the metrics up to where the run begins or goes on.
        device: that it trains on.
    """

    def __init__(self, run: Run, directory: RunDirectory, device: torch.device) -> None:
        self._device = device
        self._loggers: dict[str, Logger] = {}
        settings = {key: value for key, value in run.settings().items() if key != "training.log"}
        rows = directory.read_metrics()
        for name in run.recipe.log:
            with self._sparing_the_run(name):
                self._loggers[name] = LOGGERS[name](directory.path, settings, rows)

    def log(self, row: Row) -> None:
        """Tells them of a row of metrics."""
        self._tell(lambda logger: logger.log(row))

    def show(self, inputs: int, model: Autoencoder, split: ImageSplit) -> None:
        """Shows them what the model, after so many inputs, makes of the first images of `split`."""
        if not self._loggers:
            return
        with evaluating(model, split.device):
            images = to_float(split.images[:IMAGES])
            copies = model(images).clamp(0, 1)
        # Each has its own: inference tensors could not be written to.
        self._tell(lambda logger: logger.images(inputs, images.cpu().clone(), copies.cpu().clone()))

    def finish(self, result: Mapping[str, Any]) -> None:
        """Tells them what came out."""
        self._tell(lambda logger: logger.finish(result))

    def _tell(self, what: Callable[[Logger], None]) -> None:
        for name, logger in list(self._loggers.items()):
            with self._sparing_the_run(name):
                what(logger)

    @contextmanager
    def _sparing_the_run(self, name: str) -> Iterator[None]:
        """Whatever the logger does, the run goes on as it would without it."""
        try:
            with keeping_random_state(self._device):
                yield
        except Exception as error:  # anything: a full disk, a service that is down, a plugin's mistake
            reason = f"{type(error).__name__}: {first_line(error)}"
            what = f"{name} failed and is left out from here on, metrics.jsonl has everything"
            print(sanitize_lines(f"training.log: {what} ({reason})"), file=sys.stderr)
            self._loggers.pop(name, None)
