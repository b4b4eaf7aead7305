"""What Mixcoder does on this machine's GPU, in at most four minutes.

    python -m benchmarks.gpu            on the GPU
    python -m benchmarks.gpu --dry-run  the same parts on the CPU, with next to nothing to compute

    first line of a run ─▶ the article's six models ─▶ a sweep of 32 seeds ─▶ tests that use a GPU

The steps of all models are compiled side by side before the first is measured. `floor` is the images/s that
matrix products alone would allow: multiply-adds of an image x 3, over the speed of a product of 4096 x 4096
matrices, in bfloat16 as in float32. A part that has no time left is left out, and says so.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.contest import BATCH, images_of_the_floor, mixcoder_steps, product_speed, work
from benchmarks.throughput import MODELS, create_network

ROOT = Path(__file__).parents[1]
MOST_SECONDS = 240.0
TESTS = [
    "tests/backends/test_backend.py",
    "tests/training/test_ranks.py",
    "tests/training/test_trainer.py",
    "tests/experiments/sweeps/test_ray_workers.py",
]
PRECISIONS = ("float32", "bfloat16")


class Deadline:
    """The moment at which all parts are over.

    Args:
        seconds: from now.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds that are left."""
        return max(0.0, self._end - time.monotonic())

    def run(self, command: Sequence[str], most_seconds: float) -> str:
        """Returns what a command prints; "no time left" where it takes longer than is left or than it may."""
        seconds = min(self.left(), most_seconds)
        try:
            ended = subprocess.run(
                command,
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"no time left: {' '.join(command)}"
        status = f"\nended with {ended.returncode}" if ended.returncode else ""
        return f"{ended.stdout[-3000:]}{status}" if status else ended.stdout


def first_line(deadline: Deadline, device: str, runs: str) -> None:
    """Prints how a run says that its steps are computed."""
    command = [sys.executable, "-m", "mixcoder", "run", "experiments/digits/demo.yml", "--device", device]
    printed = deadline.run([*command, "training.compile=on", "training.inputs=6_400", "--runs", runs], 80)
    lines = [line for line in printed.splitlines() if " steps, products in " in line]
    print(f"first line of a run: {lines[0].strip() if lines else printed}\n", flush=True)


def contestant_steps(model: str, device: str) -> Any:
    """Returns the steps of a run on a device, and the number of images in each."""
    return mixcoder_steps(create_network(model), device=device, compile="on"), BATCH


def compile_models(deadline: Deadline, device: str, models: Sequence[str]) -> None:
    """Takes the first steps of all models side by side: then their code is in the cache."""
    processes = [
        subprocess.Popen(
            [*worker(device, model), "--seconds", "0"],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for model in models
    ]
    for process in processes:
        try:
            process.wait(min(deadline.left(), 120))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def worker(device: str, model: str) -> list[str]:
    """Returns the command that measures a model."""
    return [sys.executable, "-m", "benchmarks.gpu", "--device", device, "--work", model]


def compare_models(deadline: Deadline, options: argparse.Namespace) -> None:
    """Prints images/s of each model, and its share of the floor in either precision."""
    compile_models(deadline, options.device, options.models)
    products = [product_speed(options.width, options.device, precision) for precision in PRECISIONS]
    print("| model | images/s | of the floor, float32 | bfloat16 | start-up (s) |\n|---|---:|---:|---:|---:|")
    for model in options.models:
        command = [*worker(options.device, model), "--seconds", str(options.seconds)]
        printed = deadline.run(command, 45)
        lines = [line for line in printed.splitlines() if line.startswith('{"startup"')]
        if not lines:
            print(f"| {model} | {printed.strip()[-500:]} |", flush=True)
            continue
        row = json.loads(lines[-1])
        floors = [images_of_the_floor(create_network(model), product) for product in products]
        shares = " | ".join(f"{row['throughput'] / floor:.2%}" for floor in floors)
        print(f"| {model} | {row['throughput']:,.0f} | {shares} | {row['startup']:.1f} |", flush=True)


def sweep(deadline: Deadline, options: argparse.Namespace, runs: str) -> None:
    """Prints the images/s of a sweep over seeds, from the command to its end."""
    seeds, inputs = options.seeds, options.inputs
    experiment = {
        "extends": str(ROOT / "experiments/digits/demo.yml"),
        "name": "seeds",
        "matrix": {"seed": list(range(seeds))},
        "training": {"seed": "${seed}", "inputs": inputs, "validations": 1, "compile": "on"},
    }
    file = Path(runs) / "seeds.yml"
    file.write_text(json.dumps(experiment))  # which is YAML too
    jobs = min(seeds, os.cpu_count() or 1)
    command = [sys.executable, "-m", "mixcoder", "run", str(file), "--device", options.device]
    start = time.perf_counter()
    printed = deadline.run([*command, "-j", str(jobs), "--runs", runs], 90)
    seconds = time.perf_counter() - start
    done = len(list(Path(runs).glob("seeds/*/result.json")))
    speed = f"{done * inputs / seconds:,.0f} images/s, {seconds:.0f} s"
    print(f"\nsweep of {seeds} seeds, {jobs} side by side: {speed}", flush=True)
    if done < seeds:
        print(f"{done} of {seeds} runs ended: {printed.strip()[-1000:]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=4.0, help="to measure a model")
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--seeds", type=int, default=32, help="of the sweep")
    parser.add_argument("--inputs", type=int, default=200_000, help="of each run of the sweep")
    parser.add_argument("--width", type=int, default=4096, help="of the matrices of the floor")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(partial(contestant_steps, options.work, options.device), options.seconds)
        return
    if options.dry_run:
        small = {
            "device": "cpu",
            "models": ["cnn k1"],
            "seconds": 0.1,
            "width": 64,
            "seeds": 2,
            "inputs": 640,
        }
        vars(options).update(small)
    deadline = Deadline(MOST_SECONDS)
    with tempfile.TemporaryDirectory() as runs:
        first_line(deadline, options.device, runs)
        compare_models(deadline, options)
        sweep(deadline, options, runs)
    command = [sys.executable, "-m", "pytest", "-q", "-n", "auto", "-m", "not slow", *TESTS]
    printed = deadline.run([*command, *(["--collect-only"] if options.dry_run else [])], 120)
    print("\ntests:", *printed.splitlines()[-8:], sep="\n")


if __name__ == "__main__":
    main()
