"""Whatever stands in an experiment file, a script or an IDX file: it is sound, or refused in a sentence."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest

from mixcoder.errors import MixcoderError
from tests.faults import fuzz
from tests.pace import yardstick

ROOT = Path(__file__).parents[2]


def test_nothing_broken_is_a_traceback_or_takes_long() -> None:
    """In a process of its own, whose memory is bounded. `make faults` opens more."""
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.faults.fuzz",
            "--cases=500",
            "--seed=7",
            f"--seconds={10 * yardstick()}",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    *kinds, last = ended.stdout.splitlines()
    assert last == "0 failed"
    counts = [re.findall(r"(\d+) (experiments|scripts|idx|sound|refused|failed)", line) for line in kinds]
    for (cases, _), (sound, _), (refused, _), _ in counts:
        assert int(sound) > 0
        assert int(refused) > 0.5 * int(cases)
    assert [cases for (cases, _), *_ in counts] == ["200", "150", "150"]


class Faulty:
    """A kind of file whose cases go wrong in turn."""

    cases = 0

    def draw(self, dice: Random) -> dict[str, Any]:
        self.cases += 1
        ways = ["sound", "refused", "error", "wrong", "no sentence", "slow"]
        return {"way": ways[self.cases - 1], "drawn": dice.random()}

    def prepare(self) -> None:
        pass

    def read(self, case: dict[str, Any]) -> str:
        start = time.process_time()
        while case["way"] == "slow" and time.process_time() < start + 0.1:
            pass
        if case["way"] in ("refused", "no sentence"):
            raise MixcoderError(case["way"])
        return str(1 / 0 if case["way"] == "error" else case["way"])

    def check_sound(self, case: dict[str, Any], value: str) -> None:
        assert value != "wrong"

    def check_refusal(self, case: dict[str, Any], message: str) -> None:
        assert message == "refused"


def test_what_fails_is_counted_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error not ours, a wrong value, words that say nothing, too much time: each can be repeated."""
    monkeypatch.setattr(fuzz, "KINDS", {"faulty": (Faulty(), 1.0)})
    tally = fuzz.fuzz(6, 3, tmp_path / "kept", most_seconds=0.05)["faulty"]
    assert (tally.cases, tally.sound, tally.refused) == (6, 1, 1)
    assert ["ZeroDivisionError" in tally.failures[0], "took 0.1 s" in tally.failures[3]] == [True, True]
    kept = sorted((tmp_path / "kept").iterdir())
    assert [path.name for path in kept] == [f"faulty-3-{number}.json" for number in (2, 3, 4, 5)]
    content = json.loads(kept[0].read_text())
    assert content["kind"] == "faulty"
    with pytest.raises(ZeroDivisionError):
        fuzz.open_case("faulty", content["case"])
