"""The contract of every logger: it receives what a run measures while it trains, and writes where it likes.

    run ─┬─ a row of metrics ─▶ log
         ├─ a validation ─────▶ images      of each logger that `training.log` names
         └─ the result ───────▶ finish

`metrics.jsonl` is written in any case, and is the truth: a logger that fails is left out of the run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixcoder.registry.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

Row = Mapping[str, Any]
"""A line of metrics: `step`, `inputs`, `training_loss`, `learning_rate`, at times `validation_loss`."""


class Logger:
    """A base of loggers. A subclass implements the methods whose events it wants.

    A new one is made when a run begins, and whenever it goes on.

    Args:
        folder: the run directory, which is there.
        settings: the whole run as one map with dotted keys, such as `model.patch_size`.
        rows: the metrics so far, of a run that goes on. What was logged after the last of them comes again.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], rows: Sequence[Row]) -> None:
        self.folder = folder
        self.settings = settings

    @classmethod
    def check(cls) -> None:
        """Looks for what the logger needs, such as a package, before anything trains.

        Raises:
            ArgumentError: it is not here; says how to get it.
        """

    def log(self, row: Row) -> None:
        """Takes a row of metrics, every few steps."""

    def images(self, inputs: int, originals: Tensor, reconstructions: Tensor) -> None:
        """Takes some validation images and their reconstructions, the same images at each validation.

        Args:
            inputs: how many images the model has been trained on.
            originals: (N, C, H, W) float32 in [0, 1], on the CPU.
            reconstructions: likewise, clipped to that range.
        """

    def finish(self, result: Mapping[str, Any]) -> None:
        """Takes what will be in `result.json`, once the run is done."""


LOGGERS: Registry[type[Logger]] = Registry("logger", "log")
register_logger = LOGGERS.register
