"""What a Ray cluster adds to a sweep: the same runs with `-j 2`, and on a cluster of two nodes of one core.

    python -m benchmarks.cluster_overhead [--seconds 30] [--rounds 3]

    round: mixcoder run -j 2 ─▶ seconds ─▶ mixcoder run --cluster ─▶ seconds ─▶ overhead

Both have two threads of this machine. The cluster is there only while it is used; to start it is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.cluster_costs import local_cluster

FILE = """\
name: overhead
data: {source: digits}
model: {type: mixer, patch_size: 2, hidden_channels: [16, 16, 16], latent_dim: 8, mixer_at: [2], mixer: cnn}
training: {inputs: "${inputs}", seed: "${seed}", compile: "on"}
matrix: {inputs: [200_000], seed: [0, 1, 2, 3]}
"""
CALIBRATION = 400_000
"""Inputs of a run that tells how many a run of the wanted seconds needs."""


def seconds_of(folder: Path, runs: str, *arguments: str) -> float:
    """Returns how long a sweep takes, with the start of its process."""
    command = [sys.executable, "-m", "mixcoder", "run", "overhead.yml", "--runs", runs, *arguments]
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - start


def inputs_for(folder: Path, seconds: float) -> int:
    """Returns the inputs of a run that trains so long beside another."""
    seconds_of(folder, "calibration", "-j", "2", f"matrix.inputs=[{CALIBRATION}]")
    results = [json.loads(path.read_text()) for path in folder.glob("calibration/*/*/result.json")]
    return int(seconds * statistics.mean(result["throughput"] for result in results))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0, help="that each of the four runs trains")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "overhead.yml").write_text(FILE)
        inputs = f"matrix.inputs=[{inputs_for(folder, options.seconds)}]"
        overheads = []
        for number in range(options.rounds):
            here = seconds_of(folder, f"here{number}", "-j", "2", inputs)
            with local_cluster() as cluster:
                there = seconds_of(folder, f"there{number}", "--cluster", cluster.address, inputs)
            overheads.append(there / here - 1)
            print(f"-j 2: {here:.1f} s · cluster: {there:.1f} s · overhead {overheads[-1]:+.1%}", flush=True)
        print(f"median overhead: {statistics.median(overheads):+.1%}")


if __name__ == "__main__":
    main()
