"""TensorBoard's event files, made of its own messages and records.

torch's SummaryWriter is not used: it loads TensorFlow where that is installed, and writes in a thread, where
a full disk ends in a traceback that nobody can catch.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.api_pb2 import STATUS_SUCCESS
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.summary.writer.record_writer import RecordWriter

from mixcoder.io.appended_file import open_to_append
from mixcoder.text.values import format_value

_VERSION = "brain.Event:2"


class EventFile:
    """A new event file in a folder that may hold older ones; written at once, and closed again, at each call.

    Args:
        folder: is one run for TensorBoard.
        first_step: this step and those after it are forgotten of the older files.

    Raises:
        OSError: it cannot be written; so do all methods.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"events.out.tfevents.{time.time_ns()}"  # read in the order of their names
        self._write(Event(file_version=_VERSION))
        self._write(Event(step=first_step, session_log=SessionLog(status=SessionLog.START)))

    def write_scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Adds a point to the curve of each key."""
        points = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._write(Event(step=step, summary=Summary(value=points)))

    def write_picture(self, step: int, tag: str, picture: Image.Image) -> None:
        """Adds a picture to the series called `tag`."""
        content = BytesIO()
        picture.save(content, "PNG")
        image = Summary.Image(
            width=picture.width,
            height=picture.height,
            colorspace=len(picture.getbands()),
            encoded_image_string=content.getvalue(),
        )
        self._write(Event(step=step, summary=Summary(value=[Summary.Value(tag=tag, image=image)])))

    def write_settings(self, row: str, settings: Mapping[str, Any]) -> None:
        """States what stands in the columns of the row called `row` of TensorBoard's table of runs."""
        # No metadata.EXPERIMENT_TAG, of which one run's would decide the columns for all.
        columns = {key: _cell(value) for key, value in settings.items() if value is not None}
        self._write(Event(summary=hparams_pb(columns, trial_id=row)))

    def write_success(self) -> None:
        """Says in the table of runs that this one is done."""
        end = HParamsPluginData(
            session_end_info=SessionEndInfo(status=STATUS_SUCCESS, end_time_secs=time.time())
        )
        value = Summary.Value(
            tag=metadata.SESSION_END_INFO_TAG,
            metadata=metadata.create_summary_metadata(end),
            tensor=metadata.NULL_TENSOR,
        )
        self._write(Event(summary=Summary(value=[value])))

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        with open_to_append(self._path) as file:
            RecordWriter(file).write(event.SerializeToString())


def _cell(value: Any) -> bool | int | float | str:
    return value if isinstance(value, bool | int | float | str) else format_value(value)
