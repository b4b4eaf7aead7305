"""How much faster a run is on several ranks: steps of shards as measured here, and a network as stated.

    python -m benchmarks.rank_scaling [--device cpu] [--latency-us 50] [--gigabytes-per-second 2]
    python -m benchmarks.rank_scaling --step-ms 1 5 25 --latency-us 20 --gigabytes-per-second 20

    seconds of a step by the images of a shard ─┐
    latency, bytes a second ─▶ ring all_reduce ─┴▶ seconds of a step on 1, 2, 4, … 64 ranks ─▶ speed-up

A ring sums N elements on n ranks in 2 (n - 1) messages of 4 N / n bytes each. A rank has one core, or a GPU.
One process alone takes its own step, in which the update may be part of the native code; a rank's step
weights the gradients before the update. With --step-ms nothing is measured: that is the step of one rank,
and each rank keeps its shard, so that n ranks train on batches n times as large.
`benchmarks.all_reduce` measures the sum between the ranks of one machine.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.throughput import create_network
from mixcoder import ImageData, ImageSplit
from mixcoder.backends.step import Reduction
from mixcoder.training.ranks import ALONE, Ranks
from mixcoder.training.recipe import Recipe
from mixcoder.training.training_loop import Progress, TrainingLoop

MODELS = ("cnn k1", "mlp")
"""A small Mixer and a large one, of `benchmarks.throughput`."""
SHARDS = (1, 4, 16, 64, 256, 1024)
TOTAL_STEPS = 1_000_000
CHUNK = 25
"""Steps of a run, and of each of its chunks, which are the largest; only the first chunks are trained."""
ROUNDS = 4
SECONDS = 0.5
"""Rounds in which all shards are timed in turn, and the shortest time for one: the fastest chunk counts."""
BATCHES = (64, 1024, 16_384)
RANKS = (2, 4, 8, 16, 32, 64)
PARAMETERS = (35_249, 4_363_601, 20_000_000)
"""Of the models of a run whose step is stated: those of MODELS, and a larger one."""


class LonelyRank(Ranks):
    """A rank without others: it weights its gradients as each rank does, and there is nothing to add."""

    def reduction(self, weight: float) -> Reduction:
        def weight_gradients(gradients: Tensor) -> None:
            gradients.mul_(weight)

        return weight_gradients


@dataclass(frozen=True)
class Network:
    """A network between ranks.

    Attributes:
        latency: seconds of a message without its bytes.
        rate: bytes a second of each rank, in each direction.
    """

    latency: float
    rate: float

    def all_reduce_seconds(self, elements: int, ranks: int) -> float:
        """The seconds of a ring that sums float32 elements over all ranks."""
        messages = 2 * (ranks - 1)
        return messages * (self.latency + 4 * elements / ranks / self.rate)


@dataclass(frozen=True)
class Model:
    """A model, and what its steps take.

    Attributes:
        name: in `benchmarks.throughput`.
        parameters: their elements.
        alone_seconds: of a batch of each of SHARDS, in one process.
        rank_seconds: of a shard of each of SHARDS on a rank, without the sum.
    """

    name: str
    parameters: int
    alone_seconds: tuple[float, ...]
    rank_seconds: tuple[float, ...]

    def speed_up(self, batch: int, ranks: int, network: Network) -> float:
        """How many times as fast a batch is on several ranks as in one process."""
        shard = interpolate(batch / ranks, self.rank_seconds)
        together = shard + network.all_reduce_seconds(self.parameters, ranks)
        return interpolate(batch, self.alone_seconds) / together


def interpolate(images: float, seconds: tuple[float, ...]) -> float:
    """The seconds of a step of so many images; beyond the largest of SHARDS, in proportion."""
    if images > SHARDS[-1]:
        return seconds[-1] * images / SHARDS[-1]
    return float(np.interp(images, SHARDS, seconds))


def start_run(name: str, images: Tensor, shard: int, ranks: Ranks) -> Iterator[Progress]:
    """A run whose first chunk is done, in which it compiles."""
    data = ImageData("noise", ImageSplit(images), ImageSplit(images[:64]))
    recipe = Recipe(batch_size=shard, steps=TOTAL_STEPS, validations=1, compile="on", learning_rate=1e-4)
    run = TrainingLoop(create_network(name).to(images.device), data, recipe, ranks).run()
    next(run)
    return run


def step_seconds(run: Iterator[Progress]) -> float:
    """The seconds of a step in the fastest of a run's next chunks."""
    taken: list[float] = []
    while sum(taken) < SECONDS:
        start = time.perf_counter()
        next(run)
        taken.append(time.perf_counter() - start)
    return min(taken) / CHUNK


def measure_model(name: str, device: torch.device) -> Model:
    """Times the steps of a model, in one process and on a rank."""
    images = torch.randint(0, 256, (SHARDS[-1], 1, 28, 28), dtype=torch.uint8, device=device)
    places = (ALONE, LonelyRank())
    runs = [start_run(name, images, shard, ranks) for ranks in places for shard in SHARDS]
    rounds = [[step_seconds(run) for run in runs] for _ in range(ROUNDS)]
    fastest = tuple(min(times) for times in zip(*rounds, strict=True))
    parameters = sum(parameter.numel() for parameter in create_network(name).parameters())
    return Model(name, parameters, fastest[: len(SHARDS)], fastest[len(SHARDS) :])


def print_table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a table; its columns are numbers from the second on."""
    print(f"| {' | '.join(names)} |\n|---|{'---:|' * (len(names) - 1)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)
    print()


def print_measured(models: Sequence[Model], network: Network) -> None:
    """Prints the steps that were timed, and what follows from them for one batch on several ranks."""
    steps = (
        (f"{model.name}, {place}", f"{model.parameters:,}", *(f"{1000 * each:.2f}" for each in seconds))
        for model in models
        for place, seconds in (("one process", model.alone_seconds), ("a rank", model.rank_seconds))
    )
    names = (f"{shard:,} image{'s' if shard > 1 else ''}" for shard in SHARDS)
    print_table(["step (ms) of", "parameters", *names], steps)
    speed_ups = [
        (
            model.name,
            f"{batch:,}",
            *(_factor(model.speed_up(batch, ranks, network), ranks) for ranks in RANKS),
        )
        for model in models
        for batch in BATCHES
    ]
    print_table(["model", "batch", *(f"{ranks} ranks" for ranks in RANKS)], speed_ups)
    if any(cell.endswith("*") for row in speed_ups for cell in row):
        print("* more than the ranks: a small shard takes less time for an image than a large batch")


def print_stated(step_ms: Sequence[float], network: Network) -> None:
    """Prints how many times as many images as one rank several train a second, each with a shard as large."""
    rows = []
    for parameters in PARAMETERS:
        sums = [network.all_reduce_seconds(parameters, ranks) for ranks in RANKS]
        for step in step_ms:
            seconds = step / 1000
            factors = (n * seconds / (seconds + each) for n, each in zip(RANKS, sums, strict=True))
            texts = (f"{factor:.1f}" for factor in factors)
            rows.append((f"{parameters:,}", f"{step:g}", *texts, f"{1000 * sums[-1]:.2f}"))
    names = ["parameters", "step (ms)", *(f"{ranks} ranks" for ranks in RANKS)]
    print_table([*names, f"sum of {RANKS[-1]} ranks (ms)"], rows)


def _factor(value: float, ranks: int) -> str:
    """Returns a speed-up as text, with a star where it is more than the ranks."""
    return f"{value:.1f}{'*' if value > ranks + 0.05 else ''}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--latency-us", type=float, default=50.0)
    parser.add_argument("--gigabytes-per-second", type=float, default=2.0)
    parser.add_argument("--step-ms", type=float, nargs="+", help="of one rank; nothing is measured then")
    options = parser.parse_args()
    network = Network(options.latency_us / 1e6, options.gigabytes_per_second * 1e9)
    if options.step_ms:
        return print_stated(options.step_ms, network)
    torch.set_num_threads(1)
    return print_measured([measure_model(name, torch.device(options.device)) for name in MODELS], network)


if __name__ == "__main__":
    main()
