"""Killed at random moments, runs go on and end as those that nobody disturbed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_no_run_is_lost_and_none_ends_otherwise() -> None:
    """In a process of its own, which forks before torch has any threads. `make faults` kills more."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.faults.kills", "--kills", "8", "--seed", "7"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.startswith("8 kills in ")
    assert ended.stdout.splitlines()[-1] == "0 lost, 0 unequal"
