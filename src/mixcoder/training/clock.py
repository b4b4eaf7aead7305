"""A clock of the training alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

Count = Annotated[int, Field(ge=0, le=10**18)]
Seconds = Annotated[float, Field(ge=0, le=1e12)]


@dataclass
class TrainingClock:
    """Counts the images of training steps and the seconds they take, and nothing else.

    It runs only inside `measure`, so that validation, checkpoints and reports are left out; the first steps
    of a process, in which kernels are chosen and code is compiled, go to a warm-up account of their own. Its
    state is part of the checkpoint, so that a resumed run goes on counting; its fields are bounded as a
    checkpoint may come from elsewhere.
    """

    inputs: Count = 0
    seconds: Seconds = 0.0
    warmup_inputs: Count = 0
    warmup_seconds: Seconds = 0.0

    @contextmanager
    def measure(self, inputs: int, *, warmup: bool) -> Iterator[None]:
        """Context whose time is added to the account; it must train on `inputs` images."""
        start = time.perf_counter()
        yield
        elapsed = time.perf_counter() - start
        if warmup:
            self.warmup_inputs += inputs
            self.warmup_seconds += elapsed
        else:
            self.inputs += inputs
            self.seconds += elapsed

    @property
    def throughput(self) -> float:
        """Returns the training images per second, without the warm-up, unless a run has nothing else."""
        if self.seconds:
            return self.inputs / self.seconds
        return self.warmup_inputs / self.warmup_seconds if self.warmup_seconds else 0.0
