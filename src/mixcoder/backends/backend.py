"""How the steps of a run are computed: the backends in order, the choice among them, and one `build_step`.

    Workload ─▶ choose_backend ─▶ BackendChoice ─┐
    StepSpec ────────────────────────────────────┴▶ build_step ─┬▶ step(images uint8) ─▶ loss
                                                                └▶ the choice as it turned out

`BACKENDS` is read from top to bottom: the first that pays and supports a workload computes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch

from mixcoder.backends.eager import EAGER
from mixcoder.backends.inductor.inductor_backend import INDUCTOR, SHARDED_INDUCTOR
from mixcoder.backends.native.native_backend import NATIVE
from mixcoder.backends.step import StepSpec, TrainingStep, UnsupportedError
from mixcoder.backends.threads import one_thread
from mixcoder.backends.workload import Workload, bfloat16_instructions


class Backend(Protocol):
    """A way to compute training steps.

    Attributes:
        name: as it stands in a run's result.
        failure: beginning of the note on why it could not be built.
    """

    name: str
    failure: str

    def pays(self, workload: Workload) -> bool:
        """Returns whether it saves more time than it takes to build."""

    def supports(self, workload: Workload) -> str | None:
        """Returns why it cannot compute a workload; None where it can, as far as is known before `build`."""

    def shards(self, workload: Workload) -> int:
        """Returns how many shards of a batch it computes side by side."""

    def bfloat16_pays_from(self, device: torch.device) -> float:
        """Returns the multiply-adds of an image, from which products in bfloat16 are faster than in float32.

        Infinity where they never are.
        """

    def build(self, spec: StepSpec) -> TrainingStep:
        """Returns the step, compiled now where it is to be.

        Raises:
            UnsupportedError: it cannot be built; says why.
        """


BACKENDS: tuple[Backend, ...] = (NATIVE, SHARDED_INDUCTOR, INDUCTOR, EAGER)
"""The first that pays and supports a workload computes it; the next stand in where it cannot be built."""


@dataclass(frozen=True)
class BackendChoice:
    """How steps are computed; `str` gives the text that a run's result stores as `execution`.

    Attributes:
        backend: that computes them.
        precision: of matrix products and convolutions; all else is float32.
        shards: equal ones of a batch, computed side by side.
        note: why a faster backend does not compute them; empty where none would be faster.
        precision_note: why the precision is not the usual one; empty where it is, or was asked for.
        fallbacks: backends and their shards, tried in order where this one cannot be built.
    """

    backend: Backend
    precision: torch.dtype
    shards: int = 1
    note: str = ""
    precision_note: str = field(default="", compare=False)
    fallbacks: Sequence[tuple[Backend, int]] = field(default=((EAGER, 1),), compare=False)

    def threads(self) -> AbstractContextManager[None]:
        """Context for the training loop: with shards, torch itself runs on one thread."""
        return one_thread() if self.shards > 1 else nullcontext()

    def __str__(self) -> str:
        shards = f", batches in {self.shards} parts side by side" if self.shards > 1 else ""
        precision = str(self.precision).removeprefix("torch.")
        notes = "; ".join(note for note in (self.precision_note, self.note) if note)
        return f"{self.backend.name} steps, products in {precision}{shards}{f' ({notes})' if notes else ''}"


def choose_backend(workload: Workload) -> BackendChoice:
    """Returns the first backend that pays and supports a workload, with the next ones as fallbacks."""
    paying = [backend for backend in BACKENDS if backend.pays(workload)]
    refusals = [backend.supports(workload) for backend in paying]
    fitting = [backend for backend, refusal in zip(paying, refusals, strict=True) if refusal is None]
    first, *others = [(backend, backend.shards(workload)) for backend in fitting]
    precision, precision_note = _precision(workload, first[0])
    note = f"no {paying[0].name} steps: {refusals[0]}" if refusals[0] else ""
    return BackendChoice(first[0], precision, first[1], note, precision_note, others)


def build_step(spec: StepSpec, choice: BackendChoice) -> tuple[TrainingStep, BackendChoice]:
    """Returns the training step, and how it is computed: eagerly, where nothing else can be built.

    Args:
        spec: of the step; the choice sets its precision and shards.
        choice: the backends to try.
    """
    notes = {"": choice.note}  # by the name of the backend that could not be built
    for backend, shards in [(choice.backend, choice.shards), *choice.fallbacks]:
        try:
            step = backend.build(replace(spec, precision=choice.precision, shards=shards))
        except UnsupportedError as error:
            notes[backend.name] = f"{backend.failure}: {error}"
        else:
            told = [note for name, note in notes.items() if name != backend.name and note]
            note = told[-1] if told else ""
            return step, BackendChoice(backend, choice.precision, shards, note, choice.precision_note)
    raise UnsupportedError("; ".join(filter(None, notes.values())))


def _precision(workload: Workload, backend: Backend) -> tuple[torch.dtype, str]:
    """Returns the precision that was asked for, or the faster one and why it is bfloat16."""
    if workload.precision != "auto":
        return torch.bfloat16 if workload.precision == "bfloat16" else torch.float32, ""
    if workload.madds < backend.bfloat16_pays_from(workload.device):
        return torch.float32, ""
    return torch.bfloat16, f"bfloat16 is faster here, with {bfloat16_instructions(workload.device)}"
