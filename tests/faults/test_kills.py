"""Killed at random moments, runs go on and end as those that nobody disturbed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.conftest import slow

ROOT = Path(__file__).parents[2]


def kill(kept: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, which forks before torch has any threads."""
    return subprocess.run(
        [sys.executable, "-m", "tests.faults.kills", "--kills=8", "--seed=7", f"--kept={kept}", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@slow
def test_no_run_is_lost_and_none_ends_otherwise(tmp_path: Path) -> None:
    """`make faults` kills more. A harness that was interrupted goes on from its state."""
    ended = kill(tmp_path)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.startswith("8 kills in ")
    assert ended.stdout.splitlines()[-1] == "0 lost, 0 unequal, 0 tracebacks"
    [path] = tmp_path.iterdir()
    state = json.loads(path.read_text())
    assert sum(state["kills"].values()) == sum(state["ways"].values()) == 8
    path.write_text(json.dumps({**state, "kills": {"long ago": 7}, "lost": ["one"], "is_done": False}))
    ended = kill(tmp_path)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert ended.stdout.startswith("8 kills in ")
    assert "7 long ago" in ended.stdout
    assert "1 lost, 0 unequal, 0 tracebacks\n  one\n" in ended.stdout
    assert kill(tmp_path, "--show").stdout == ended.stdout
