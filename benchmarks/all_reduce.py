"""How long ranks take to sum a vector of gradients, by its length: what a step of a run under torchrun adds.

    python -m benchmarks.all_reduce [--ranks 2]

    torchrun ─▶ ranks on this machine ─▶ the run's own reduction of a vector ─▶ milliseconds

With a GPU for each rank through NCCL, else through gloo and the loopback.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

import torch

from mixcoder.training.process_group import ProcessGroup, join_ranks
from mixcoder.training.ranks import is_under_torchrun

SIZES = (1_000, 10_000, 35_000, 100_000, 1_000_000, 4_363_601, 20_000_000)
"""Elements; of `benchmarks.throughput`, `cnn k1` has about 35,000 parameters and `mlp` 4,363,601."""
SECONDS = 2.0
"""Time for one size, at least three reductions of it."""


def milliseconds(ranks: ProcessGroup, size: int) -> tuple[float, float]:
    """The fastest and the median reduction of one size."""
    reduce = ranks.reduction(1 / ranks.count)
    gradients = torch.ones(size, device=ranks.device)
    taken: list[float] = []
    reduce(gradients)
    while ranks.from_first(len(taken) < 3 or sum(taken) < SECONDS):
        start = time.perf_counter()
        reduce(gradients)
        if ranks.device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return 1000 * min(taken), 1000 * statistics.median(taken)


def measure() -> None:
    """Prints a table, as one of the ranks."""
    with join_ranks("auto") as ranks:
        device = ranks.device
        name = f"NCCL, {torch.cuda.get_device_name(device)}" if device.type == "cuda" else "gloo, CPU"
        lines = [
            f"{ranks.count} ranks, {name}",
            "",
            "| elements | fastest (ms) | median (ms) |",
            "|---:|---:|---:|",
        ]
        for size in SIZES:
            fastest, median = milliseconds(ranks, size)
            lines.append(f"| {size:,} | {fastest:.3f} | {median:.3f} |")
        if ranks.is_first:
            print("\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--ranks", type=int, default=torch.cuda.device_count() or 2)
    options = parser.parse_args()
    if is_under_torchrun():
        measure()
        return
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={options.ranks}", "-m", "benchmarks.all_reduce"]
    raise SystemExit(subprocess.run(command).returncode)


if __name__ == "__main__":
    main()
