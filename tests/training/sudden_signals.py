"""A plugin that sends a signal in the middle of a step: to the rank itself, or to its torchrun.

    SUDDEN_SIGNAL="SIGKILL self 1 25"     rank 1 gets SIGKILL as it takes batch number 25
    SUDDEN_SIGNAL="SIGINT torchrun 0 25"  torchrun gets Ctrl-C as rank 0 takes batch number 25

Only in the first attempt of torchrun.
"""

from __future__ import annotations

import os
import signal

from torch import Tensor

from mixcoder.data.split import TrainingBatches

NAME, RECEIVER, RANK, STEP = os.environ.get("SUDDEN_SIGNAL", "SIGKILL self none -1").split()
IS_MEANT = os.environ["RANK"] == RANK and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"

_take_batch = TrainingBatches.__getitem__


def _take_batch_or_send(batches: TrainingBatches, step: int) -> Tensor:
    if step == int(STEP):
        os.kill(os.getpid() if RECEIVER == "self" else os.getppid(), signal.Signals[NAME])
    return _take_batch(batches, step)


if IS_MEANT:
    TrainingBatches.__getitem__ = _take_batch_or_send  # type: ignore[method-assign]
