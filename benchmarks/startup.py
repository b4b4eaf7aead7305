"""How long a run takes from the command to its first training steps, with an empty cache and a filled one.

python -m benchmarks.startup [--repeats 3] [experiments/mnist/first.yml key=value …]

mixcoder run FILE ─▶ seconds until metrics.jsonl has its first line ─▶ the run is ended
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FIRST = "experiments/mnist/first.yml"


def seconds_to_first_steps(arguments: list[str], cache: Path) -> float:
    """Of one run, in a run directory of its own.

    Args:
        arguments: of `mixcoder`, such as `run FILE`.
        cache: the user's cache folder.
    """
    with tempfile.TemporaryDirectory() as runs:
        command = [sys.executable, "-m", "mixcoder", *arguments, "--runs", runs]
        start = time.perf_counter()
        run = subprocess.Popen(
            command,
            env={**os.environ, "XDG_CACHE_HOME": str(cache)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while not any(path.stat().st_size for path in Path(runs).rglob("metrics.jsonl")):
                if run.poll() is not None:
                    raise SystemExit(f"the run ended before its first steps: {' '.join(command)}")
                time.sleep(0.01)
            return time.perf_counter() - start
        finally:
            run.kill()
            run.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("arguments", nargs="*", default=[FIRST], help=f"of `mixcoder run`; {FIRST}")
    options = parser.parse_args()
    print("| cache | seconds to the first steps | median |")
    print("|---|---|---:|")
    with tempfile.TemporaryDirectory() as root:
        caches = [Path(root) / str(i) for i in range(options.repeats)]
        for name, each in (("empty", caches), ("filled", caches)):
            taken = [seconds_to_first_steps(["run", *options.arguments], cache) for cache in each]
            shown = ", ".join(f"{it:.1f}" for it in taken)
            print(f"| {name} | {shown} | {statistics.median(taken):.1f} |", flush=True)


if __name__ == "__main__":
    main()
