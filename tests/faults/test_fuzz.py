"""Whatever stands in a file, and whatever it is called: it is sound, or refused in a sentence."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest

from mixcoder.errors import MixcoderError
from tests.conftest import slow
from tests.faults import fuzz
from tests.pace import yardstick

ROOT = Path(__file__).parents[2]


@slow
def test_nothing_broken_is_a_traceback_or_takes_long(tmp_path: Path) -> None:
    """In a process of its own, whose memory is bounded. `make faults` opens more."""
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.faults.fuzz",
            "--cases=500",
            "--seed=7",
            f"--seconds={10 * yardstick()}",
            f"--kept={tmp_path}",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    *kinds, last = ended.stdout.splitlines()
    assert last == "0 failed of 500"
    counts = [re.findall(rf"(\d+) ({'|'.join(fuzz.KINDS)}|sound|refused|failed)", line) for line in kinds]
    for (cases, _), (sound, _), (refused, _), _ in counts:
        assert int(sound) > 0
        assert int(refused) > 0.25 * int(cases)
    assert [cases for (cases, _), *_ in counts] == ["100", "100", "75", "75", "75", "25", "25", "25"]


class Faulty:
    """A kind of file whose cases go wrong in turn."""

    def __init__(self, *ways: str) -> None:
        self.ways = ways
        self.drawn = 0

    def draw(self, dice: Random) -> dict[str, Any]:
        self.drawn += 1
        return {"way": self.ways[self.drawn - 1], "drawn": dice.random()}

    def prepare(self) -> None:
        pass

    def read(self, case: dict[str, Any]) -> str:
        start = time.process_time()
        while case["way"] == "slow" and time.process_time() < start + 0.1:
            pass
        if case["way"] == "dies":
            os._exit(3)
        if case["way"] in ("refused", "no sentence"):
            raise MixcoderError(case["way"])
        return str(1 / 0 if case["way"] == "error" else case["way"])

    def check_sound(self, case: dict[str, Any], value: str) -> None:
        assert value != "wrong"

    def check_refusal(self, case: dict[str, Any], message: str) -> None:
        assert message == "refused"


def test_what_fails_is_counted_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error not ours, a wrong value, words that say nothing, too much time: each can be repeated."""
    faulty = Faulty("sound", "refused", "error", "wrong", "no sentence", "slow")
    monkeypatch.setattr(fuzz, "KINDS", {"faulty": (faulty, 1.0)})
    monkeypatch.chdir(tmp_path)
    Path("faulty").mkdir()
    state = tmp_path / "kept" / "state.json"
    tally = fuzz.fuzz(6, 3, state, most_seconds=0.05)["faulty"]
    assert (tally.cases, tally.sound, tally.refused) == (6, 1, 1)
    assert ["ZeroDivisionError" in tally.failures[0], "took 0.1 s" in tally.failures[3]] == [True, True]
    kept = sorted(path for path in state.parent.iterdir() if path != state)
    assert [path.name for path in kept] == [f"faulty-3-{number}.json" for number in (2, 3, 4, 5)]
    content = json.loads(kept[0].read_text())
    assert content["kind"] == "faulty"
    with pytest.raises(ZeroDivisionError):
        fuzz.open_case("faulty", content["case"])


def test_the_case_that_ends_the_process_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Numbered(Faulty):
        def draw(self, dice: Random) -> dict[str, Any]:
            return {"way": "dies" if dice.random() == Random("faulty 3 1").random() else "sound"}

    monkeypatch.setattr(fuzz, "KINDS", {"faulty": (Numbered(), 1.0)})
    monkeypatch.chdir(tmp_path)
    Path("faulty").mkdir()
    tally = fuzz.fuzz(3, 3, tmp_path / "state.json")["faulty"]
    assert (tally.sound, tally.failures) == (2, ["faulty, seed 3, case 1: its process ended with 3"])


def test_figures_outlast_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is counted is not opened again, until the goal is reached; then all begins anew."""
    monkeypatch.chdir(tmp_path)
    Path("faulty").mkdir()
    state = tmp_path / "state.json"
    counted = {"sound": 2, "refused": 2, "failures": ["one"], "slowest": 0.5}
    state.write_text(json.dumps({"kinds": {"faulty": counted}, "is_done": False}))
    monkeypatch.setattr(fuzz, "KINDS", {"faulty": (Faulty("sound", "refused"), 1.0)})
    tally = fuzz.fuzz(7, 3, state)["faulty"]
    assert (tally.sound, tally.refused, tally.failures) == (3, 3, ["one"])
    monkeypatch.setattr(fuzz, "KINDS", {"faulty": (Faulty("sound", "refused"), 1.0)})
    assert fuzz.fuzz(2, 3, state)["faulty"].cases == 2
