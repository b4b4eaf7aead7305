"""What the benchmarks of training share: contestants that train in turns, each in a fresh process.

contestant ─▶ process ─▶ first step, warm-up ─▶ images/s of some seconds ─▶ medians over the repeats
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

BATCH = 64
LEARNING_RATE = 0.001
WARMUP_STEPS = 20

Row = dict[str, float]
"""Of a contestant: `startup` in seconds, `throughput` in images/s, `ratio` to the plain loop's."""


def mnist_like() -> Any:
    """Returns 60,000 images (N, 1, 28, 28) uint8 of noise: their content does not change the speed."""
    import torch

    return torch.randint(0, 256, (60_000, 1, 28, 28), dtype=torch.uint8)


def mixcoder_steps(network: Any, device: str = "cpu", **recipe: Any) -> Iterator[Any]:
    """Takes the steps of Mixcoder's loop, as a run of a million inputs chooses them."""
    import torch

    from mixcoder.data.split import ImageData, ImageSplit, TrainingBatches
    from mixcoder.training.recipe import Recipe
    from mixcoder.training.training_loop import TrainingLoop

    split = ImageSplit(mnist_like())
    data = ImageData("benchmark", split, ImageSplit(torch.zeros(1, 1, 28, 28, dtype=torch.uint8)))
    of_a_run = {"inputs": 1_000_000, "learning_rate": LEARNING_RATE, "batch_size": BATCH, **recipe}
    loop = TrainingLoop(network.to(device), data.to(device), Recipe(**of_a_run))
    step = loop.create_step()
    batches = TrainingBatches(loop.data.train, BATCH, seed=0)
    with loop.backend.threads():
        for i in count():
            yield step(batches[i])


def work(create_steps: Callable[[], tuple[Iterator[Any], int]], seconds: float) -> None:
    """Runs a contestant in this process: prints start-up seconds and images/s as JSON.

    Args:
        create_steps: returns the steps, and the number of images in each.
        seconds: to measure.
    """
    start = time.perf_counter()
    steps, images = create_steps()
    next(steps)
    startup = time.perf_counter() - start
    for _ in range(max(1, WARMUP_STEPS * BATCH // images)):
        last = next(steps)
    float(last)
    start, done = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        last = next(steps)
        done += images
    float(last)
    print(json.dumps({"startup": startup, "throughput": done / (time.perf_counter() - start)}))


def measure(module: str, contestant: str, model: str, seconds: float) -> Row:
    """Returns a contestant's start-up seconds and images/s, of one or of two processes.

    Args:
        module: of the benchmark, which calls `work` for `--work CONTESTANT --models MODEL`.
        contestant: with a name that ends in "sweep", two processes train side by side.
        model: to be trained.
        seconds: to measure.
    """
    workers = 2 if contestant.endswith("sweep") else 1
    threads = max(1, (os.cpu_count() or 1) // workers)
    flags = "--xla_cpu_multi_thread_eigen=false" if workers == 2 else ""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "XLA_FLAGS": flags}
    command = [sys.executable, "-m", module, "--work", contestant, "--models", model]
    command += ["--seconds", str(seconds)]
    processes = [
        subprocess.Popen(
            pinned(command, slot, workers), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for slot in range(workers)
    ]
    answers = [process.communicate() for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit(f"{' '.join(command)} failed: {answers[0][1].decode()[-2000:]}")
    rows = [json.loads(answer.splitlines()[-1]) for answer, _ in answers]
    return {
        "startup": max(row["startup"] for row in rows),
        "throughput": sum(row["throughput"] for row in rows),
    }


def pinned(command: list[str], slot: int, workers: int) -> list[str]:
    """Returns the command on a core of its own where there are several workers: JAX takes all it sees."""
    return command if workers == 1 else ["taskset", "-c", str(slot), *command]


def compete(
    module: str, contestants: Sequence[str], model: str, seconds: float, repeats: int
) -> dict[str, Row]:
    """Returns a row for each contestant: medians over the repeats, of speeds and of ratios in a repeat.

    The first contestant is the one that the others are compared with.
    """
    rows: dict[str, list[Row]] = {contestant: [] for contestant in contestants}
    for _ in range(repeats):
        for contestant in contestants:
            measured = measure(module, contestant, model, seconds)
            rows[contestant].append(measured)
            measured["ratio"] = measured["throughput"] / rows[contestants[0]][-1]["throughput"]
    keys = ("throughput", "ratio", "startup")
    return {
        contestant: {key: statistics.median(row[key] for row in measured) for key in keys}
        for contestant, measured in rows.items()
    }


def product_speed(width: int = 1024, device: str = "cpu", precision: str = "float32") -> float:
    """Returns the multiply-adds a second of a product of square matrices."""
    import torch

    matrix = torch.randn(width, width, device=device, dtype=getattr(torch, precision))

    def seconds(products: int) -> float:
        start = time.perf_counter()
        for _ in range(products):
            product = matrix @ matrix
        float(product[0, 0])  # waits
        return time.perf_counter() - start

    seconds(3)
    return 20 * width**3 / min(seconds(20) for _ in range(3))


def images_of_the_floor(network: Any, product: float) -> float:
    """Returns the images/s that matrix products alone would allow.

    Args:
        network: whose multiply-adds of an image count three times, for forward and backward.
        product: multiply-adds a second, as `product_speed` measures them.
    """
    from mixcoder.models.cost import count_madds

    return product / (3 * count_madds(network))


def has_tiles() -> bool:
    """Returns whether the processor has AMX tiles for bfloat16."""
    import torch

    return bool(torch.cpu.get_capabilities().get("amx_bf16"))


def describe_machine(product: float) -> str:
    """Returns a line on the machine, and an empty one.

    Args:
        product: multiply-adds a second, as `product_speed` measures them.
    """
    import torch

    name = torch.cpu.get_capabilities().get("cpu_name", platform.processor())
    tiles = "with" if has_tiles() else "without"
    speed = f"float32 product: {2 * product / 1e9:,.0f} GFLOP/s on {os.cpu_count()} cores"
    return f"{name}, {tiles} AMX tiles; {speed}\n"
