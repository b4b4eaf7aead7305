"""A sweep whose workers are killed within narrow limits says how every run ended, and finishes later."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conftest import slow

ROOT = Path(__file__).parents[2]


@slow
def test_every_run_ends_with_its_reason_and_the_table_is_right() -> None:
    """`make faults` has more runs, and kills more."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.faults.storm", "--runs", "2", "--kills", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    storm, calm, wrong = ended.stdout.splitlines()
    assert storm.startswith("storm: 2 runs, 1 workers killed: ")
    assert calm == "calm: 2 runs, 0 workers killed: 1 done, 0 killed, 1 refused, 0 failed"
    assert wrong == "0 wrong"
