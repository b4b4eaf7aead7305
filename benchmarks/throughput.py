"""Training images a second: Mixcoder against code written without it, on the same machine.

    python -m benchmarks.throughput [--models "cnn k1,mlp"] [--contestants run,sweep] [--seconds 6]

For each of the article's MNIST models, with batches of 64, in alternation, every contestant in a fresh
process that has both cores unless said otherwise:

    plain      torch's own layers, a DataLoader with a worker for each core, eager steps (benchmarks/plain.py)
    compiled   the same loop, its model under torch.compile
    jax        one Mixer in JAX, a `lax.scan` over the images of an epoch (benchmarks/jax_mixer.py)
    jax sweep  two of those side by side, one core each; images/s added up
    run        Mixcoder, as `mixcoder run` trains
    sweep      Mixcoder, as `mixcoder run -j 2` trains: two runs side by side, one core each, added up

Compiling and the first steps are left out, and reported apart as start-up. `floor` is the images/s that
matrix products alone would allow: multiply-adds of an image x 3 for forward and backward, over the speed
of a float32 product of 1024 x 1024 matrices measured in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count
from typing import Any

MODELS: dict[str, dict[str, Any]] = {
    "cnn k1": {"mixer": "cnn", "kernel_size": 1},
    "cnnf k3": {"mixer": "cnnf", "kernel_size": 3},
    "cnn2df k7": {"mixer": "cnn2df", "kernel_size": 7},
    "cnn2df k13": {"mixer": "cnn2df", "kernel_size": 13},
    "mlp": {"mixer": "mlp", "kernel_size": 1},
    "CNN 5x5": {"kernel_size": 5},
}
CONTESTANTS = ["plain", "compiled", "jax", "jax sweep", "run", "sweep"]
TARGETS = {
    "cnn k1": (4, 5),
    "cnnf k3": (4, 5),
    "cnn2df k7": (3, 3),
    "cnn2df k13": (3, 3),
    "mlp": (3, 3),
    "CNN 5x5": (2, 2),
}
"""How many times the plain loop's speed `run` and `sweep` are to reach."""
BATCH = 64
LEARNING_RATE = 0.001
WARMUP_STEPS = 20


def mixer_arguments(model: str) -> dict[str, Any]:
    """Returns the arguments of Mixcoder's Mixer for one of the Mixers of `MODELS`."""
    hidden = {"patch_size": 7, "hidden_channels": [64, 64, 64, 16], "latent_dim": 16, "mixer_at": [2, 3, 4]}
    return {**hidden, **MODELS[model]}


def create_network(model: str) -> Any:
    """Returns Mixcoder's model for one of `MODELS`."""
    from mixcoder.models import create_model

    if "mixer" in MODELS[model]:
        return create_model("mixer", image_shape=(1, 28, 28), **mixer_arguments(model))
    cnn = {"channels": [24, 32, 48], "latent_dim": 16, **MODELS[model]}
    return create_model("cnn", image_shape=(1, 28, 28), **cnn)


def plain_steps(model: str, *, compiled: bool) -> Iterator[Any]:
    """Returns the steps of the plain loop."""
    from benchmarks import plain

    arguments = MODELS[model]
    if "mixer" in arguments:
        network: Any = plain.Mixer(arguments["mixer"], arguments["kernel_size"])
    else:
        network = plain.Cnn(arguments["kernel_size"])
    return plain.steps(network, mnist_like(), LEARNING_RATE, compiled=compiled)


def mixcoder_steps(model: str) -> Iterator[Any]:
    """Takes the steps of Mixcoder's trainer, as a run of a million inputs chooses them."""
    import torch

    from mixcoder.data.split import ImageData, ImageSplit, TrainingBatches
    from mixcoder.training.recipe import Recipe
    from mixcoder.training.trainer import Trainer

    split = ImageSplit(mnist_like())
    data = ImageData("benchmark", split, ImageSplit(torch.zeros(1, 1, 28, 28, dtype=torch.uint8)))
    recipe = Recipe(inputs=1_000_000, learning_rate=LEARNING_RATE, batch_size=BATCH)
    trainer = Trainer(create_network(model), data, recipe)
    step = trainer.create_step()
    batches = TrainingBatches(split, BATCH, seed=0)
    with trainer.backend.threads():
        for i in count():
            yield step(batches[i])


def mnist_like() -> Any:
    """Returns 60,000 images (N, 1, 28, 28) uint8 of noise: their content does not change the speed."""
    import torch

    return torch.randint(0, 256, (60_000, 1, 28, 28), dtype=torch.uint8)


def contestant_steps(contestant: str, model: str) -> tuple[Iterator[Any], int]:
    """Returns the steps of a contestant, and the number of images in each."""
    if contestant.startswith("jax"):
        from benchmarks import jax_mixer

        return jax_mixer.epochs(mnist_like().numpy(), BATCH, LEARNING_RATE), jax_mixer.STEPS * BATCH
    if contestant in ("run", "sweep"):
        return mixcoder_steps(model), BATCH
    return plain_steps(model, compiled=contestant == "compiled"), BATCH


def work(contestant: str, model: str, seconds: float) -> None:
    """Runs a contestant in its own process: prints start-up seconds and images/s as JSON."""
    start = time.perf_counter()
    steps, images = contestant_steps(contestant, model)
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


def measure(contestant: str, model: str, seconds: float) -> dict[str, float]:
    """Returns a contestant's start-up seconds and images/s, of one or of two processes."""
    workers = 2 if contestant.endswith("sweep") else 1
    threads = max(1, (os.cpu_count() or 1) // workers)
    flags = "--xla_cpu_multi_thread_eigen=false" if workers == 2 else ""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "XLA_FLAGS": flags}
    command = [sys.executable, "-m", "benchmarks.throughput", "--work", contestant, "--models", model]
    command += ["--seconds", str(seconds)]
    processes = [
        subprocess.Popen(
            pinned(command, slot, workers), env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        for slot in range(workers)
    ]
    answers = [process.communicate()[0] for process in processes]
    rows = [json.loads(answer.splitlines()[-1]) for answer in answers]
    return {
        "startup": max(row["startup"] for row in rows),
        "throughput": sum(row["throughput"] for row in rows),
    }


def pinned(command: list[str], slot: int, workers: int) -> list[str]:
    """Returns the command on a core of its own where there are several workers: JAX takes all it sees."""
    return command if workers == 1 else ["taskset", "-c", str(slot), *command]


def product_speed(seconds: float = 1.0) -> float:
    """Returns the multiply-adds a second of a float32 product of 1024 x 1024 matrices."""
    import torch

    matrix = torch.randn(1024, 1024)

    def speed() -> float:
        start, products = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - start) < seconds / 3:
            matrix @ matrix
            products += 1
        return products * 1024**3 / elapsed

    speed()
    return max(speed() for _ in range(3))


def madds(model: str) -> int:
    """Returns the multiply-adds of an image through the model."""
    from mixcoder.models.cost import count_madds

    return count_madds(create_network(model))


def compare(model: str, contestants: list[str], seconds: float, repeats: int, product: float) -> None:
    """Prints a row for each contestant: medians over the repeats, of speeds and of ratios in a repeat."""
    rows: dict[str, list[dict[str, float]]] = {contestant: [] for contestant in contestants}
    for _ in range(repeats):
        for contestant in contestants:
            measured = measure(contestant, model, seconds)
            rows[contestant].append(measured)
            measured["ratio"] = measured["throughput"] / rows["plain"][-1]["throughput"]
    floor = product / (3 * madds(model))
    targets = dict(zip(("run", "sweep"), TARGETS[model], strict=True))
    for contestant in contestants:
        speed, ratio, startup = (
            statistics.median(row[key] for row in rows[contestant])
            for key in ("throughput", "ratio", "startup")
        )
        figures = f"{speed:,.0f} | {ratio:.2f} | {targets.get(contestant, '')} | {speed / floor:.0%}"
        print(f"| {model} | {contestant} | {figures} | {startup:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--contestants", default=",".join(CONTESTANTS))
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        return work(options.work, options.models, options.seconds)
    product = product_speed()
    print(f"float32 product: {2 * product / 1e9:,.0f} GFLOP/s on {os.cpu_count()} cores\n")
    print("| model | contestant | images/s | times plain | target | of the floor | start-up (s) |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for model in options.models.split(","):
        others = [name for name in options.contestants.split(",") if name != "plain"]
        fitting = ["plain", *(name for name in others if model == "cnn k1" or not name.startswith("jax"))]
        compare(model, fitting, options.seconds, options.repeats, product)
    return None


if __name__ == "__main__":
    main()
