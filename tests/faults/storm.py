"""A sweep within narrow limits, its workers killed at random: every run ends done or failed with its reason.

    python -m tests.faults.storm [--runs 16] [--kills 8] [--seed 0]

    limits of files and memory ─▶ mixcoder run -j 2 ─┬─ SIGKILL to a worker, now and then
                                                     └▶ ends ─▶ looked at ─▶ once more, in calm ─▶ looked at

The last run is larger than the memory. A look compares what the table says of each run with what its
directory holds, and searches the logs for tracebacks.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

FILES, MEMORY = 64, 4 * 10**9
"""What a process may open, and take (`ulimit -n -v`)."""
SWEEP = """\
name: storm
data: {{source: digits}}
model: {{type: mixer, patch_size: 4, hidden_channels: ["${{breadth}}", "${{breadth}}"], latent_dim: 4}}
training: {{inputs: 9_600, validations: 3, seed: "${{seed}}"}}
matrix:
  breadth: [8]
  seed: {seeds}
  include: [{{breadth: 60_000, seed: 0}}]
"""
_LONGEST_PAUSE = 4.0


def write_sweep(folder: Path, runs: int) -> None:
    """An experiment of so many runs, the last of which cannot fit."""
    (folder / "storm.yml").write_text(SWEEP.format(seeds=list(range(runs - 1))))


def sweep(folder: Path, kills: int, dice: random.Random) -> tuple[int, str]:
    """Runs the sweep to its end; says how many of its workers were killed, and what it said itself."""
    with (folder / "said.txt").open("w+") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "mixcoder", "run", "storm.yml", "-j", "2"],
            cwd=folder,
            stdout=said,
            stderr=said,
            preexec_fn=_limit,
        )
        killed: set[int] = set()
        while process.poll() is None:
            if len(killed) < kills and (workers := _workers_of(process.pid) - killed):
                time.sleep(dice.uniform(0, _LONGEST_PAUSE))
                victim = dice.choice(sorted(workers))
                with suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
                    killed.add(victim)
            time.sleep(0.1)
        said.seek(0)
        return len(killed), said.read()


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _workers_of(sweep: int) -> set[int]:
    """The processes that a sweep has started and not yet seen to end."""
    workers = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            _, _, rest = (folder / "stat").read_text().rpartition(") ")
            state, parent = rest.split()[:2]
            is_mixcoder = b"config.yml" in (folder / "cmdline").read_bytes()
            if int(parent) == sweep and state != "Z" and is_mixcoder:
                workers.add(int(folder.name))
    return workers


def look(folder: Path, said: str) -> tuple[Counter[str], list[str]]:
    """How the runs of the table ended, and what is wrong with them."""
    ended = subprocess.run(
        [sys.executable, "-m", "mixcoder", "table", "storm.yml", "--format", "json"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    ends: Counter[str] = Counter()
    wrong = ["the sweep says Traceback"] if "Traceback" in said else []
    for row in json.loads(ended.stdout):
        end, problem = _end(row, folder / "runs" / "storm" / row["run"])
        ends[end] += 1
        if problem:
            wrong.append(f"{row['run']}: {problem}")
    return ends, wrong


def _end(row: dict[str, Any], directory: Path) -> tuple[str, str]:
    """How one run ended by its directory, and where that is not what the table says, or no good end."""
    result, failure = (_object(directory / name) for name in ("result.json", "failure.json"))
    reason = failure.get("reason", "")
    is_refused = " GB of memory and there are " in reason
    end = "done" if result else "killed" if "SIGKILL" in reason else "refused" if is_refused else "failed"
    found = ("done" if result else "failed", result.get("validation_loss"), reason)
    told = (row["state"], row["validation_loss"], row["reason"])
    if found != told:
        return end, f"its directory says {found}, the table {told}"
    if end == "failed" or "Traceback" in (directory / "log.txt").read_text():
        return end, f"ended badly: {reason}"
    return end, ""


def _object(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return content


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=16)
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_sweep(folder, options.runs)
        for weather, kills in (("storm", options.kills), ("calm", 0)):
            killed, said = sweep(folder, kills, random.Random(options.seed))
            ends, problems = look(folder, said)
            wrong += problems
            counts = ", ".join(f"{ends[end]} {end}" for end in ("done", "killed", "refused", "failed"))
            print(f"{weather}: {ends.total()} runs, {killed} workers killed: {counts}")
            if weather == "calm" and ends != {"done": options.runs - 1, "refused": 1}:
                wrong.append("the calm did not finish what the storm had left")
    print(f"{len(wrong)} wrong")
    for line in wrong:
        print(f"  {line}")
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
