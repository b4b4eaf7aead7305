"""A plugin for tests of ranks: shorter waits, a list of processes, and a signal in the middle of a step.

    SUDDEN_SIGNAL="SIGKILL self 1 25"     rank 1 gets SIGKILL as it takes batch number 25
    SUDDEN_SIGNAL="SIGINT torchrun 0 25"  torchrun gets Ctrl-C as rank 0 takes batch number 25
    SUDDEN_SIGNAL="SIGSTOP self 1 -1"     rank 1 stops before it joins

Only in the first attempt of torchrun. Later ones print the number of their first batch to stderr. There are
checkpoints after most chunks.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path

from torch import Tensor

from mixcoder.data.split import TrainingBatches
from mixcoder.experiments.runs import run_directory, training_run
from mixcoder.training import process_group

NAME, RECEIVER, RANK, STEP = os.environ.get("SUDDEN_SIGNAL", "SIGKILL self none -1").split()
IS_FIRST_ATTEMPT = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"

_take_batch = TrainingBatches.__getitem__


def _send() -> None:
    os.kill(os.getpid() if RECEIVER == "self" else os.getppid(), signal.Signals[NAME])


def _take_batch_or_send(batches: TrainingBatches, step: int) -> Tensor:
    if step == int(STEP):
        _send()
        time.sleep(0 if step else 10)  # a Ctrl-C before the first step ends this
    return _take_batch(batches, step)


def _take_batch_and_tell(batches: TrainingBatches, step: int) -> Tensor:
    TrainingBatches.__getitem__ = _take_batch  # type: ignore[method-assign]
    print(f"from batch {step}", file=sys.stderr)
    return _take_batch(batches, step)


(Path(os.environ["RANKS_FOLDER"]) / str(os.getpid())).touch()
run_directory.LOCK_SECONDS = 0.5
process_group.LONGEST_JOIN = timedelta(seconds=float(os.environ.get("LONGEST_JOIN", 60)))
if "SUDDEN_SIGNAL" in os.environ:
    training_run.CHECKPOINT_SECONDS, training_run.CHECKPOINT_SHARE = 0.0, 1.0
if not IS_FIRST_ATTEMPT:
    TrainingBatches.__getitem__ = _take_batch_and_tell  # type: ignore[method-assign]
elif os.environ["RANK"] == RANK:
    TrainingBatches.__getitem__ = _take_batch_or_send  # type: ignore[method-assign]
    if int(STEP) < 0:
        _send()
