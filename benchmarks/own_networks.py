"""Training images a second of "the user's own": networks and optimizers that the article does not have.

    python -m benchmarks.own_networks [--models "grouped;looped"] [--contestants run,sweep] [--seconds 6]

For each of them, with batches of 64, in alternation, every contestant in a fresh process:

    plain   torch's own layers and optimizers, a DataLoader, eager steps (benchmarks/plain_invented.py)
    run     Mixcoder, as `python -m mixcoder --plugin benchmarks/invented.py run` trains
    sweep   Mixcoder, two runs side by side, one core each, added up

The last two columns are the seconds from the command to the first steps of a run on MNIST, with the user's
cache empty, so that kernels are compiled, and with it filled. Below the table stands how much longer a step
of Muon takes than one of AdamW.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.contest import (
    BATCH,
    LEARNING_RATE,
    Row,
    compete,
    describe_machine,
    mixcoder_steps,
    mnist_like,
    product_speed,
    work,
)
from benchmarks.startup import seconds_to_first_steps
from benchmarks.throughput import mixer_arguments

if TYPE_CHECKING:
    from torch import nn

MODULE = "benchmarks.own_networks"
PLUGIN = Path(__file__).with_name("invented.py")
CONTESTANTS = ["plain", "run", "sweep"]
TARGETS = {"run": 4, "sweep": 5}
"""How many times the plain loop's speed they are to reach."""


def plain_mixer(layer: str, **arguments: Any) -> nn.Module:
    """Returns the article's Mixer with one of the plain mixing layers."""
    from benchmarks import plain
    from benchmarks.plain_invented import INVENTED_MIXERS

    return plain.Mixer({**plain.MIXERS, **INVENTED_MIXERS}[layer], **arguments)


def plain_normed() -> nn.Module:
    """Returns the article's `cnn` Mixer with RMS norm."""
    from torch import nn

    return plain_mixer("cnn", norm=nn.RMSNorm)


def plain_looped() -> nn.Module:
    """Returns the Mixer of looped blocks."""
    from benchmarks.plain_invented import Looped

    return Looped()


def plain_refined() -> nn.Module:
    """Returns the refined network."""
    from benchmarks.plain_invented import Refined

    return Refined()


@dataclass(frozen=True)
class OwnNetwork:
    """A network and its optimizer, with Mixcoder and without.

    Attributes:
        model: its part of the experiment file.
        plain: creates the network without Mixcoder.
        optimizer: by Mixcoder's name, which is a function of benchmarks/plain.py too.
    """

    model: dict[str, Any]
    plain: Callable[[], nn.Module]
    optimizer: str = "adamw"


def _mixer(model: str = "cnn k1", **arguments: Any) -> dict[str, Any]:
    return {"type": "mixer", **mixer_arguments(model), **arguments}


NETWORKS = {
    "cnn k1": OwnNetwork(_mixer(), partial(plain_mixer, "cnn")),
    "cnn k1, RMS norm": OwnNetwork(_mixer(norm="rms"), plain_normed),
    "cnn k1, Muon": OwnNetwork(_mixer(), partial(plain_mixer, "cnn"), "muon"),
    "mlp": OwnNetwork(_mixer("mlp"), partial(plain_mixer, "mlp")),
    "mlp, Muon": OwnNetwork(_mixer("mlp"), partial(plain_mixer, "mlp"), "muon"),
    "shift": OwnNetwork(_mixer(mixer="shift"), partial(plain_mixer, "shift")),
    "grouped": OwnNetwork(_mixer(mixer="grouped"), partial(plain_mixer, "grouped")),
    "attention": OwnNetwork(_mixer(mixer="attention"), partial(plain_mixer, "attention")),
    "looped": OwnNetwork({"type": "looped", "patch_size": 7}, plain_looped),
    "refined": OwnNetwork({"type": "refined", "patch_size": 7}, plain_refined, "muon"),
}
MUON_AND_ADAMW = {"cnn k1, Muon": "cnn k1", "mlp, Muon": "mlp"}


def create_network(model: str) -> Any:
    """Returns Mixcoder's model for one of `NETWORKS`."""
    from benchmarks import invented  # noqa: F401 - registers its layers and models
    from mixcoder.models import create_model

    arguments = dict(NETWORKS[model].model)
    return create_model(arguments.pop("type"), image_shape=(1, 28, 28), **arguments)


def contestant_steps(contestant: str, model: str) -> tuple[Iterator[Any], int]:
    """Returns the steps of a contestant, and the number of images in each."""
    network = NETWORKS[model]
    if contestant != "plain":
        return mixcoder_steps(create_network(model), optimizer=network.optimizer), BATCH
    from benchmarks import plain

    made = network.plain()
    optimizers = getattr(plain, network.optimizer)(made, LEARNING_RATE)
    return plain.steps(made, mnist_like(), optimizers, compiled=False), BATCH


def seconds_from_command(model: str) -> tuple[float, float]:
    """Returns the seconds from the command to the first steps: with an empty cache, and with a filled one."""
    network = NETWORKS[model]
    experiment = {
        "name": "own",
        "data": {"source": "mnist"},
        "model": network.model,
        "training": {"inputs": 1_000_000, "optimizer": network.optimizer, "batch_size": BATCH},
    }
    with tempfile.TemporaryDirectory() as folder:
        file, cache = Path(folder) / "own.yml", Path(folder) / "cache"
        file.write_text(json.dumps(experiment))  # which is YAML too
        arguments = ["--plugin", str(PLUGIN), "run", str(file)]
        return seconds_to_first_steps(arguments, cache), seconds_to_first_steps(arguments, cache)


def execution(model: str) -> str:
    """Returns how the steps of a run are computed, in few words."""
    import torch

    from mixcoder.backends.backend import choose_backend
    from mixcoder.models.cost import count_madds
    from mixcoder.training.recipe import Recipe

    network = create_network(model).train()
    recipe = Recipe(inputs=1_000_000, batch_size=BATCH, optimizer=NETWORKS[model].optimizer)
    workload = recipe.workload(network, count_madds(network), 1_000_000, torch.device("cpu"))
    choice = choose_backend(workload)
    return f"{choice.backend.name}, {str(choice.precision).removeprefix('torch.')}"


def compare(model: str, rows: dict[str, Row]) -> None:
    """Prints a row of the table for each contestant."""
    empty, filled = seconds_from_command(model)
    for contestant, row in rows.items():
        speed = f"{row['throughput']:,.0f} | {row['ratio']:.2f} | {TARGETS.get(contestant, '')}"
        startup = f"{execution(model)} | {empty:.1f} | {filled:.1f}" if contestant == "run" else "| |"
        print(f"| {model} | {contestant} | {speed} | {startup} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", default=";".join(NETWORKS), help="separated by ;")
    parser.add_argument("--contestants", default=",".join(CONTESTANTS))
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(partial(contestant_steps, options.work, options.models), options.seconds)
        return
    print(describe_machine(product_speed()))
    print(
        "| network | contestant | images/s | times plain | target | steps | first (s) | kernels built (s) |"
    )
    print("|---|---|---:|---:|---:|---|---:|---:|")
    contestants = ["plain", *(name for name in options.contestants.split(",") if name != "plain")]
    found: dict[str, dict[str, Row]] = {}
    for model in options.models.split(";"):
        found[model] = compete(
            "benchmarks.own_networks", contestants, model, options.seconds, options.repeats
        )
        compare(model, found[model])
    for muon, adamw in MUON_AND_ADAMW.items():
        for contestant in contestants[1:] if {muon, adamw} <= set(found) else ():
            times = found[adamw][contestant]["throughput"] / found[muon][contestant]["throughput"]
            print(f"\n{muon}: a step takes {times:.2f} times as long as with AdamW ({contestant})")


if __name__ == "__main__":
    main()
