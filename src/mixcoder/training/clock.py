"""One clock for the training itself."""

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

    It runs only inside `measure`, so that validation, checkpoints and reports are left out; the first
    steps of a process, in which kernels are chosen and code is compiled, go to a warm-up account of their
    own. Its state travels in the checkpoint, so that a resumed run goes on counting; the bounds are for
    one that was not written here.
    """

    inputs: Count = 0
    seconds: Seconds = 0.0
    warmup_inputs: Count = 0
    warmup_seconds: Seconds = 0.0

    @contextmanager
    def measure(self, inputs: int, *, warmup: bool) -> Iterator[None]:
        """Books the time of the `with` block, which must train on `inputs` images."""
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
        """Training images per second. Warm-up is left out, unless a run is so short that it is all of it."""
        if self.seconds:
            return self.inputs / self.seconds
        return self.warmup_inputs / self.warmup_seconds if self.warmup_seconds else 0.0
