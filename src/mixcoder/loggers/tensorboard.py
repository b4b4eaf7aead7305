"""TensorBoard: the curves, the pictures and the table of all runs, live in a browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixcoder.errors import ArgumentError
from mixcoder.loggers.logger import Logger, Row, register_logger
from mixcoder.measures import CURVE_TAGS, MEASURES

if TYPE_CHECKING:
    from torch import Tensor

FOLDER = "tensorboard"
_RESULT_TAGS = {measure.key: measure.tag for measure in MEASURES if measure.tag}
"""Of these, TensorBoard's table of runs shows the first five by the alphabet unasked."""


@register_logger("tensorboard")
class TensorBoard(Logger):
    """A logger of losses, reconstructions and settings, in `tensorboard/` of the run directory.

    What TensorBoard calls a step is an input: an image that the model was trained on.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], rows: Sequence[Row]) -> None:
        super().__init__(folder, settings, rows)
        from mixcoder.loggers.event_file import EventFile

        is_new = not (folder / FOLDER).exists()
        self._events = EventFile(folder / FOLDER, first_step=rows[-1]["inputs"] + 1 if rows else 0)
        self._events.write_settings(f"{folder.parent.name}/{folder.name}", settings)
        for row in rows if is_new else []:
            self.log(row)

    @classmethod
    def check(cls) -> None:
        try:
            import mixcoder.loggers.event_file  # noqa: F401 - whether it can be
        except ImportError:
            needed = "tensorboard needs another package: pip install 'mixcoder[tensorboard]'"
            raise ArgumentError("training.log", needed) from None

    def log(self, row: Row) -> None:
        self._write(CURVE_TAGS, row)

    def images(self, inputs: int, originals: Tensor, reconstructions: Tensor) -> None:
        from mixcoder.pixels.pictures import stacked_grid

        self._events.write_picture(inputs, "reconstructions", stacked_grid([originals, reconstructions]))

    def finish(self, result: Mapping[str, Any]) -> None:
        self._write(_RESULT_TAGS, result)
        self._events.write_success()

    def _write(self, tags: Mapping[str, str], values: Row) -> None:
        known = {tag: values[key] for key, tag in tags.items() if values.get(key) is not None}
        self._events.write_scalars(values["inputs"], known)
