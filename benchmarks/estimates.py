"""The times that `mixcoder plan` estimates, beside those that the runs then take.

    python -m benchmarks.estimates          files of the article, few inputs, one seed: seven minutes
    python -m benchmarks.estimates first    those whose name holds a word

Nothing else may run meanwhile: an estimate is for a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
CASES: dict[str, list[str]] = {
    "digits/demo": ["training.inputs=300_000"],
    "mnist/first": ["training.inputs=400_000"],
    "mnist/conv-mixing": ["training.inputs=200_000", "matrix.seed=[0]"],
    "mnist/linear-mixing": ["training.inputs=100_000", "matrix.seed=[0]"],
    "mnist/long-run": ["training.inputs=60_000", "training.validations=1"],
}
"""Files that are small enough, and what is changed in them."""


def estimated_and_taken(name: str, changes: list[str]) -> list[tuple[float, float]]:
    """Plans an experiment, trains its runs one after the other, and plans it again.

    Returns:
        For each run, the seconds that were estimated and those that it took.
    """
    file = str(EXPERIMENTS / f"{name}.yml")
    with TemporaryDirectory() as folder:
        arguments = [file, *changes, "--runs", folder]
        before = _rows("plan", arguments)
        _rows("run", arguments)
        after = _rows("plan", arguments)
    return [(60 * one["minutes"], 60 * other["minutes"]) for one, other in zip(before, after, strict=True)]


def _rows(command: str, arguments: list[str]) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "mixcoder", command, *arguments, "--format", "json"],
        stdout=subprocess.PIPE,
        check=True,
    )
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def main() -> None:
    """Prints a line for each run, and how far the estimates are off."""
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=style)
    parser.add_argument("words", nargs="*", help="of the names of files")
    words = parser.parse_args().words
    ratios = []
    for name, changes in CASES.items():
        if words and not any(word in name for word in words):
            continue
        for estimated, taken in estimated_and_taken(name, changes):
            ratios.append(estimated / taken)
            print(f"{name}: estimated {estimated:.1f} s, took {taken:.1f} s, {ratios[-1]:.2f}", flush=True)
    print(f"{len(ratios)} runs, estimated at {min(ratios):.2f} to {max(ratios):.2f} of what they took")


if __name__ == "__main__":
    main()
