"""What strangers send is refused by name: nothing executed, nothing written, memory and time bounded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.strangers import make_all

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """What came of each, opened one after the other in a process that may take a gigabyte more."""
    place = tmp_path_factory.mktemp("strangers")
    folder, canary = place / "in" / "folder", place / "executed"
    folder.mkdir(parents=True)
    make_all(folder, canary)
    before = sorted(place.rglob("*"))
    ended = subprocess.run(
        [sys.executable, "-m", "tests.faults.strangers", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert sorted(place.rglob("*")) == before, "something was executed, or written"
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    assert len(lines) == len(list(folder.iterdir()))
    return lines


def test_each_is_refused_by_name(outcomes: list[dict[str, str]]) -> None:
    for outcome in outcomes:
        assert outcome["kind"] in ("RunDirectoryError", "DataError"), outcome
        assert outcome["name"] in outcome["message"], outcome
        assert all(line.isprintable() for line in outcome["message"].split("\n")), outcome
        assert len(outcome["message"]) < 1_000, outcome


def test_none_takes_long(outcomes: list[dict[str, float]]) -> None:
    slow = {outcome["name"]: outcome["seconds"] for outcome in outcomes if outcome["seconds"] > 5}
    assert not slow
