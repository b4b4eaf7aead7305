"""The state of each run of a sweep."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from mixcoder.errors import WriteError
from mixcoder.experiments.file.matrix import label
from mixcoder.experiments.file.spec import Run
from mixcoder.experiments.runs.run_directory import RunDirectory

TRAINED_ELSEWHERE = "another process is training it"
"""Why a run waits that this sweep cannot train."""


@dataclass
class RunState:
    """A run of a sweep, and how far it is.

    Attributes:
        run: what is trained.
        directory: the directory of the run.
        state: whether the run waits, is trained, or has ended.
        metrics: the last line of its metrics.
        reason: why the run failed, or what it waits for.
        has_images_here: whether this machine has the images, so that they can be counted.
    """

    run: Run
    directory: RunDirectory
    state: Literal["waiting", "running", "done", "failed"] = "waiting"
    metrics: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    has_images_here: bool = True

    @cached_property
    def name(self) -> str:
        """The run in words; asked for several times a second."""
        return label(self.run.values) or self.directory.path.name

    @cached_property
    def total_inputs(self) -> int | None:
        """Images seen when the run is over; None of a run stated in epochs whose images are elsewhere."""
        if self.run.recipe.epochs is not None and not self.has_images_here:
            return None
        return self.run.total_steps * self.run.recipe.batch_size

    @property
    def has_ended(self) -> bool:
        """Returns whether the run is done or has failed."""
        return self.state in ("done", "failed")

    def begin(self) -> None:
        """Notes that the run is trained now."""
        self.state, self.reason = "running", ""

    def wait(self, reason: str) -> None:
        """Lets the run wait, and notes for what."""
        self.state, self.reason = "waiting", reason

    def fail(self, reason: str, status: int) -> None:
        """Ends the run, and notes why it failed in its directory."""
        self.state, self.reason = "failed", reason
        with suppress(WriteError):  # the sweep reports the reason in any case
            self.directory.write_failure({"reason": reason, "exit_status": status})
