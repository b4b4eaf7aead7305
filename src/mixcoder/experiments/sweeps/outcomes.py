"""How a run ended, by the exit status of its process and the files that it left.

result.json ─────────────────────▶ Done
another process holds the lock ──▶ Elsewhere
an error in log.txt ─────────────▶ Failed
killed on another machine ───────▶ Lost
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from mixcoder.errors import RunLockedError
from mixcoder.experiments.runs.run_directory import parse_metrics
from mixcoder.experiments.sweeps.run_state import RunState
from mixcoder.experiments.sweeps.workers import Done, Elsewhere, Failed, Lost, Outcome

_TAIL_BYTES = 4096
"""Bytes at the end of a log or of metrics that hold the last line."""
_OUT_OF_MEMORY = (
    "; the machine may have been out of memory: try fewer jobs (-j) or a smaller training.batch_size"
)
"""What to add to SIGKILL, with which a kernel ends a process for want of memory."""
_KILLED = 128
"""What shells and srun add to the number of the signal that ended a process, for their own exit status."""


def read_outcome(state: RunState, status: int) -> Outcome:
    """Returns the outcome of a run whose process has ended with an exit status; below 0, by a signal."""
    if state.directory.is_done():  # however its process ended afterwards
        return Done()
    if status == RunLockedError.exit_status:  # another process was faster
        return Elsewhere()
    if status < 0:
        return Failed(_describe_signal(-status), status)
    return Failed(_last_line(state.directory.path / "log.txt").removeprefix("error: "), status)


def read_remote_outcome(state: RunState, status: int, log_start: int) -> Outcome:
    """Returns the outcome of a run that was trained on another machine, by the exit status of its process.

    A process that was killed is lost, perhaps with its machine; so is one that a queue has asked to end.

    Args:
        state: of the run.
        status: of the process, or of the launcher that started it.
        log_start: bytes of the log before the process.
    """
    outcome = read_outcome(state, status)
    if not isinstance(outcome, Failed):
        return outcome
    folder = state.directory.path
    error = _last_error(folder / "log.txt", log_start)
    if os.path.lexists(folder / "failure.json"):  # of the process itself
        return Failed(error, status)
    if error.startswith("interrupted"):
        return Lost(error.partition(";")[0])
    return Lost(_describe_kill(status)) if status < 0 or status >= _KILLED else Failed(error, status)


def _last_error(log: Path, start: int) -> str:
    """Returns the last error of a log, behind which a launcher may have written more; else its last line."""
    errors = [line for line in _read_tail(log, start).splitlines() if line.startswith("error: ")]
    return errors[-1].removeprefix("error: ") if errors else _last_line(log, start)


def _describe_kill(status: int) -> str:
    """Returns in words how a process was killed, by the exit status of its launcher."""
    number = -status if status < 0 else status - _KILLED
    is_known = number in list(signal.Signals)
    return _describe_signal(number) if is_known else f"its launcher ended with status {status}"


def _describe_signal(number: int) -> str:
    """Returns in words which signal ended a process."""
    name = signal.Signals(number).name if number in list(signal.Signals) else f"signal {number}"
    return f"killed by {name}{_OUT_OF_MEMORY}" if number == signal.SIGKILL else f"killed by {name}"


def _last_line(log: Path, start: int = 0) -> str:
    """Returns the last line of a log that is not empty, of those from a byte on."""
    lines = [line for line in _read_tail(log, start).splitlines() if line.strip()]
    return lines[-1].strip() if lines else "ended without a word"


def last_metrics(path: Path) -> dict[str, Any] | None:
    """Returns the last line of the metrics of a run directory, or None where there is none."""
    rows = map(parse_metrics, reversed(_read_tail(path / "metrics.jsonl").splitlines()))
    return next((row for row in rows if row is not None), None)


def _read_tail(path: Path, start: int = 0) -> str:
    """Returns the end of a text file, at most from a byte on, or an empty text where there is no file."""
    try:
        with path.open("rb") as file:
            file.seek(max(start, path.stat().st_size - _TAIL_BYTES))
            return file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
