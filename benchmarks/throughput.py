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
from collections.abc import Iterator
from functools import partial
from typing import Any

from benchmarks.contest import (
    BATCH,
    LEARNING_RATE,
    compete,
    describe_machine,
    has_tiles,
    images_of_the_floor,
    mixcoder_steps,
    mnist_like,
    product_speed,
    work,
)

MODELS: dict[str, dict[str, Any]] = {
    "cnn k1": {"mixer": "cnn", "kernel_size": 1},
    "cnnf k3": {"mixer": "cnnf", "kernel_size": 3},
    "cnn2df k7": {"mixer": "cnn2df", "kernel_size": 7},
    "cnn2df k13": {"mixer": "cnn2df", "kernel_size": 13},
    "mlp": {"mixer": "mlp", "kernel_size": 1},
    "CNN 5x5": {"kernel_size": 5},
}
CONTESTANTS = ["plain", "compiled", "jax", "jax sweep", "run", "sweep"]
RUN_TARGETS = dict(zip(MODELS, (4, 4, 3, 3, 3, 2), strict=True))
SWEEP_TARGETS: dict[bool, dict[str, float]] = {
    True: dict(zip(MODELS, (10, 8, 7, 8, 5, 5), strict=True)),
    False: dict(zip(MODELS, (8, 6, 3, 4.5, 4.5, 3), strict=True)),
}
"""How many times the plain loop's speed they are to reach: of a sweep, with AMX tiles and without."""


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
        network: Any = plain.Mixer(plain.MIXERS[arguments["mixer"]], arguments["kernel_size"])
    else:
        network = plain.Cnn(arguments["kernel_size"])
    optimizers = plain.adamw(network, LEARNING_RATE)
    return plain.steps(network, mnist_like(), optimizers, compiled=compiled)


def contestant_steps(contestant: str, model: str) -> tuple[Iterator[Any], int]:
    """Returns the steps of a contestant, and the number of images in each."""
    if contestant.startswith("jax"):
        from benchmarks import jax_mixer

        return jax_mixer.epochs(mnist_like().numpy(), BATCH, LEARNING_RATE), jax_mixer.STEPS * BATCH
    if contestant in ("run", "sweep"):
        return mixcoder_steps(create_network(model)), BATCH
    return plain_steps(model, compiled=contestant == "compiled"), BATCH


def compare(model: str, contestants: list[str], seconds: float, repeats: int, product: float) -> None:
    """Prints a row for each contestant."""
    rows = compete("benchmarks.throughput", contestants, model, seconds, repeats)
    floor = images_of_the_floor(create_network(model), product)
    targets = {"run": RUN_TARGETS[model], "sweep": SWEEP_TARGETS[has_tiles()][model]}
    for contestant, row in rows.items():
        speed = row["throughput"]
        figures = f"{speed:,.0f} | {row['ratio']:.2f} | {targets.get(contestant, '')} | {speed / floor:.0%}"
        print(f"| {model} | {contestant} | {figures} | {row['startup']:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--contestants", default=",".join(CONTESTANTS))
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        return work(partial(contestant_steps, options.work, options.models), options.seconds)
    product = product_speed()
    print(describe_machine(product))
    print("| model | contestant | images/s | times plain | target | of the floor | start-up (s) |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for model in options.models.split(","):
        others = [name for name in options.contestants.split(",") if name != "plain"]
        fitting = ["plain", *(name for name in others if model == "cnn k1" or not name.startswith("jax"))]
        compare(model, fitting, options.seconds, options.repeats, product)
    return None


if __name__ == "__main__":
    main()
