"""Compiled code that was damaged is made again, and runs end as those that nobody disturbed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conftest import slow

ROOT = Path(__file__).parents[2]


@slow
def test_no_damage_of_the_cache_changes_a_run() -> None:
    """`make faults` disturbs it in more ways, and compiled graphs too."""
    ways = [
        "cut, between runs",
        "flipped, between runs",
        "emptied, during a run",
        "killed while it compiles 0",
    ]
    ended = subprocess.run(
        [sys.executable, "-m", "tests.faults.caches", "--victims", "native", "--only", *ways],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout == "4 caches disturbed, 0 wrong (seed 0)\n"
