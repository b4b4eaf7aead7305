"""What a killed command was to write stands there whole, old or new; all else is as it was."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conftest import slow

ROOT = Path(__file__).parents[2]


@slow
def test_no_output_is_torn() -> None:
    """`make faults` kills more commands, and more often."""
    only = ["schema.json", "codes.safetensors", "images", "cache/mixcoder/packed"]
    ended = subprocess.run(
        [sys.executable, "-m", "tests.faults.outputs", "--kills=32", "--seed=7", "--only", *only],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    first, *states, last = ended.stdout.splitlines()
    assert first.endswith(" kills of 4 commands of seed 7; left behind:")
    assert {state.split(maxsplit=1)[1] for state in states} >= {"old", "new"}
    assert last == "0 wrong"
