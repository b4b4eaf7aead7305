"""One run in one process and on several ranks: how far their losses differ, and how fast they are.

    python -m benchmarks.ranks_compared [--ranks 2] [--device auto] [FILE key=value …]

    mixcoder run FILE ──────────────┬▶ metrics.jsonl, result.json ─▶ largest difference of a loss, images/s
    torchrun -m mixcoder run FILE ──┘

Each is computed eagerly, and as a backend that is built. On a machine with one GPU, `--ranks 1` shows NCCL.
Ranks exchange losses and the wish to stop once a chunk. A run of 9,601 steps or more has the largest chunks,
of 25 steps; a shorter run exchanges them more often.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.experiments.runs.run_folders import find_run_folders

FILE = ["experiments/digits/demo.yml", "training.inputs=640_000"]
"""10,000 steps of 64 images."""


def train(command: list[str], arguments: list[str], runs: Path) -> RunDirectory:
    """The run directory of an experiment of one run, trained by a command."""
    subprocess.run(
        [sys.executable, *command, "-m", "mixcoder", "run", *arguments, "--runs", str(runs)],
        check=True,
        stdout=subprocess.DEVNULL,
        env={"OMP_NUM_THREADS": "1"} | os.environ,
    )
    [folder] = find_run_folders(runs)
    return RunDirectory(folder)


def largest_difference(found: RunDirectory, expected: RunDirectory) -> float:
    """The largest relative difference of a loss in a line of metrics."""
    pairs = zip(found.read_metrics(), expected.read_metrics(), strict=True)
    keys = ("training_loss", "validation_loss")
    return max(float(abs(row[key] / other[key] - 1)) for row, other in pairs for key in keys if key in row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--ranks", type=int, default=torch.cuda.device_count() or 2)
    parser.add_argument("--device", default="auto")
    parser.add_argument("arguments", nargs="*", default=FILE, help=f"of `mixcoder run`; {' '.join(FILE)}")
    options = parser.parse_args()
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={options.ranks}"]
    print("| compile | steps | hardware | processes | images/s | largest difference of a loss |")
    print("|---|---|---|---:|---:|---:|")
    for is_built in ("off", "on"):
        arguments = [*options.arguments, f"training.compile={is_built}", "--device", options.device]
        with tempfile.TemporaryDirectory() as folder:
            alone = train([], arguments, Path(folder, "alone"))
            together = train(launcher, arguments, Path(folder, "ranks"))
            for directory, processes in ((alone, 1), (together, options.ranks)):
                result = directory.read_result() or {}
                device, difference = result["hardware"]["device"], largest_difference(directory, alone)
                print(
                    f"| {is_built} | {result['execution']} | {device} | {processes} | "
                    f"{result['throughput']:,.0f} | {difference:.1e} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
