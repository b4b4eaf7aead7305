"""How much faster a run is on several ranks: steps of shards as measured here, and a network as stated.

    python -m benchmarks.rank_scaling [--device cpu] [--latency-us 50] [--gigabytes-per-second 2]

    seconds of a step by the images of a shard ─┐
    latency, bytes a second ─▶ ring all_reduce ─┴▶ seconds of a step on 1, 2, 4, … 64 ranks ─▶ speed-up

A ring sums N elements on n ranks in 2 (n - 1) messages of 4 N / n bytes each. A rank has one core, or a GPU.
`benchmarks.all_reduce` measures the sum between the ranks of one machine.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
import torch

import mixcoder
from benchmarks.throughput import create_network
from mixcoder import ImageData, ImageSplit

MODELS = ("cnn k1", "mlp")
"""A small Mixer and a large one, of `benchmarks.throughput`."""
SHARDS = (1, 4, 16, 64, 256, 1024)
STEPS = 200
BATCHES = (64, 1024, 16_384)
RANKS = (2, 4, 8, 16, 32, 64)


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
        step_seconds: of a shard of each of SHARDS.
    """

    name: str
    parameters: int
    step_seconds: tuple[float, ...]

    def shard_seconds(self, images: float) -> float:
        """The seconds of a step of a shard; beyond the largest that was timed, in proportion."""
        if images > SHARDS[-1]:
            return self.step_seconds[-1] * images / SHARDS[-1]
        return float(np.interp(images, SHARDS, self.step_seconds))

    def speed_up(self, batch: int, ranks: int, network: Network) -> float:
        """How many times as fast a batch is on several ranks as on one."""
        together = self.shard_seconds(batch / ranks) + network.all_reduce_seconds(self.parameters, ranks)
        return self.shard_seconds(batch) / together


def measure_model(name: str, device: torch.device) -> Model:
    """Times the steps of a model, as a run takes them."""
    images = torch.randint(0, 256, (SHARDS[-1], 1, 28, 28), dtype=torch.uint8, device=device)
    data = ImageData("noise", ImageSplit(images), ImageSplit(images[:64]))
    seconds = []
    for shard in SHARDS:
        model = create_network(name).to(device)
        last = mixcoder.train(model, data, batch_size=shard, steps=STEPS, compile="on", learning_rate=1e-4)
        seconds.append(shard / last.throughput)
    return Model(name, sum(parameter.numel() for parameter in model.parameters()), tuple(seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--latency-us", type=float, default=50.0)
    parser.add_argument("--gigabytes-per-second", type=float, default=2.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    network = Network(options.latency_us / 1e6, options.gigabytes_per_second * 1e9)
    models = [measure_model(name, torch.device(options.device)) for name in MODELS]
    print(f"| model | parameters | {' | '.join(f'{shard:,} images (ms)' for shard in SHARDS)} |")
    print("|---|---:|" + "---:|" * len(SHARDS))
    for model in models:
        steps = " | ".join(f"{1000 * seconds:.2f}" for seconds in model.step_seconds)
        print(f"| {model.name} | {model.parameters:,} | {steps} |")
    print(f"\n| model | batch | {' | '.join(f'{ranks} ranks' for ranks in RANKS)} |")
    print("|---|---:|" + "---:|" * len(RANKS))
    for model in models:
        for batch in BATCHES:
            times = " | ".join(f"{model.speed_up(batch, ranks, network):.1f}" for ranks in RANKS)
            print(f"| {model.name} | {batch:,} | {times} |")


if __name__ == "__main__":
    main()
