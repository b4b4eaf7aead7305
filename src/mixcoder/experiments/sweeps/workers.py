"""What a sweep asks of the workers that train its runs, wherever they are.

    RunState ─▶ start ─▶ poll ─┬▶ Done
                               ├▶ Failed, with a reason
                               ├▶ Lost ─▶ to the front of the queue
                               └▶ Elsewhere ─▶ waits for another process

The sweep decides what is trained next and what is tried again; workers only train and tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mixcoder.experiments.sweeps.run_state import RunState


@dataclass(frozen=True)
class Done:
    """An outcome: the run has its result."""


@dataclass(frozen=True)
class Failed:
    """An outcome: the run ended without a result, and would again.

    Attributes:
        reason: in one sentence.
        status: exit status of its process.
    """

    reason: str
    status: int


@dataclass(frozen=True)
class Lost:
    """An outcome: the machine of the run is gone; the run can go on elsewhere from its last checkpoint.

    Attributes:
        reason: in one sentence.
    """

    reason: str


@dataclass(frozen=True)
class Elsewhere:
    """An outcome: another process is training the run."""


Outcome = Done | Failed | Lost | Elsewhere


class Workers(Protocol):
    """A place where runs are trained side by side: this machine, a cluster.

    While a worker trains a run, `state.state` is "running" and `state.metrics` its last line of metrics.
    """

    @property
    def are_full(self) -> bool:
        """Returns whether no further run can be started now."""

    @property
    def are_busy(self) -> bool:
        """Returns whether a run was started that `poll` has not returned yet."""

    def start(self, state: RunState) -> None:
        """Starts a run, or asks for a machine that will.

        Raises:
            MixcoderError: the directory of the run cannot be written.
            OSError: a process cannot be started.
        """

    def wait(self) -> None:
        """Waits until a run may have ended; a second at most, so that progress is seen."""

    def poll(self) -> Sequence[tuple[RunState, Outcome]]:
        """Updates the states of all runs that were started; returns those that ended since the last call."""

    def stop(self) -> None:
        """Asks all workers to save a checkpoint and end, and waits for that."""
