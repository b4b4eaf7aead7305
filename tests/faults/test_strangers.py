"""What strangers send is refused by name: nothing executed, nothing written, memory and time bounded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.conftest import slow
from tests.faults.strangers import make_all

ROOT = Path(__file__).parents[2]


@slow
def test_each_is_refused_by_name_and_soon(tmp_path: Path) -> None:
    """Opened one after the other in a process that may take a gigabyte more than it has."""
    folder, canary = tmp_path / "in" / "folder", tmp_path / "executed"
    folder.mkdir(parents=True)
    make_all(folder, canary)
    before = sorted(tmp_path.rglob("*"))
    ended = subprocess.run(
        [sys.executable, "-m", "tests.faults.strangers", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert sorted(tmp_path.rglob("*")) == before, "something was executed, or written"
    outcomes = [json.loads(line) for line in ended.stdout.splitlines()]
    assert len(outcomes) == len(list(folder.iterdir()))
    for outcome in outcomes:
        assert outcome["kind"] in ("RunDirectoryError", "DataError"), outcome
        assert outcome["name"] in outcome["message"], outcome
        assert all(line.isprintable() for line in outcome["message"].split("\n")), outcome
        assert len(outcome["message"]) < 1_000, outcome
        assert outcome["yardsticks"] <= 50, outcome
