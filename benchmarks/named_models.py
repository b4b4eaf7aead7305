"""Makes the trained models that come with the package, of the run directories of their experiment files.

    python -m benchmarks.named_models --runs runs                        all of NAMED
    python -m benchmarks.named_models --runs runs mixcoder-50k-mnist     some of them

    runs of an experiment file that differ in their seed ─▶ the first seed ─▶ weights, float16 if that costs
    nothing ─▶ src/mixcoder/models/trained/NAME/

Nothing is chosen by a loss: the weights are those of the first seed, and the card states the mean and the
standard deviation of all seeds.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mixcoder.errors import ArgumentError
from mixcoder.experiments.file.spec import Run
from mixcoder.experiments.results.records import Record, differing_keys, read_records
from mixcoder.experiments.runs.model_files import hash_weights, load_model, save_model
from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.io.atomic_file import write_atomically
from mixcoder.models import Autoencoder
from mixcoder.models.cost import count_madds
from mixcoder.models.description import WeightsType
from mixcoder.models.named import CARD, TRAINED, ModelCard
from mixcoder.models.summary import count_parameters
from mixcoder.training.evaluation import validation_loss

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
SAME_LOSS = 1e-6
"""How much of itself a loss may change by weights in float16, for these to be taken."""


class Named(NamedTuple):
    """A source of a trained model: an experiment file, and a sentence on what it is."""

    file: str
    summary: str


NAMED = {
    "mixcoder-20k-mnist": Named(
        "small-and-powerful/20k.yml", "The network for at most 20,000 parameters, its code refined."
    ),
    "mixcoder-50k-mnist": Named(
        "small-and-powerful/50k.yml", "The network for at most 50,000 parameters, its code refined."
    ),
    "mixcoder-100k-mnist": Named(
        "small-and-powerful/100k.yml", "The network for at most 100,000 parameters, its code refined."
    ),
    "mixcoder-50k-plain-mnist": Named(
        "small-and-powerful/50k-plain.yml", "The network for at most 50,000 parameters, without refinement."
    ),
}


def make_trained_model(name: str, source: Named, runs: Path, trained: Path = TRAINED) -> ModelCard:
    """Writes the folder of a trained model, and returns its card.

    Args:
        name: of the model.
        source: its experiment file, below experiments/, and its summary.
        runs: the folder of all run directories.
        trained: the folder of all trained models.

    Raises:
        ArgumentError: the runs differ in more than their seed, or the one of the first seed is not done.
    """
    records = read_records(EXPERIMENTS / source.file, [], runs)
    first, run = _first_seed(records)
    model = load_model(first.directory.path)
    weights, loss, stored = _smallest_weights(model, run, trained / name)
    save_model(trained / name, model, run.model[0], run.model[1], weights)
    RunDirectory(trained / name).write_config(run)
    done = [record.result for record in records if record.state == "done"]
    losses = [result["validation_loss"] for result in done]
    card = ModelCard(
        summary=source.summary,
        data=run.data[0],
        params=count_parameters(model),
        madds=count_madds(model),
        inputs=first.result["inputs"],
        n=len(losses),
        validation_loss=statistics.fmean(losses),
        validation_loss_std=statistics.stdev(losses) if len(losses) > 1 else None,
        own_validation_loss=loss,
        seed=run.recipe.seed,
        weights=weights,
        weights_sha256=hash_weights(stored),
        licence="Apache-2.0",
        command=f"mixcoder table experiments/{source.file}" + (" --average seed" if len(records) > 1 else ""),
        versions=first.result["versions"],
        hardware=first.result["hardware"],
    )
    write_atomically(trained / name / CARD, (json.dumps(card.model_dump(), indent=2) + "\n").encode())
    return card


def _first_seed(records: Sequence[Record]) -> tuple[Record, Run]:
    """Returns the record of the first seed of an experiment, and its run."""
    first = records[0]
    differing = differing_keys([record.run.settings() for record in records if record.run])
    if set(differing) - {"training.seed"}:
        raise ArgumentError("runs", f"must differ in training.seed alone, but differ in {differing}")
    if first.run is None or first.state != "done":
        raise ArgumentError("runs", f"the run of the first seed is {first.state}: {first.directory.path}")
    return first, first.run


def _smallest_weights(model: Autoencoder, run: Run, folder: Path) -> tuple[WeightsType, float, Autoencoder]:
    """Returns the type in which to store weights, the loss with them, and the model as read back.

    The folder holds the model in that type afterwards, without a card.
    """
    images = run.create_source().load().validation
    (folder / CARD).unlink(missing_ok=True)
    full = validation_loss(model, images, run.recipe.loss)
    save_model(folder, model, run.model[0], run.model[1], "float16")
    halved = load_model(folder)
    loss = validation_loss(halved, images, run.recipe.loss)
    if abs(loss / full - 1) <= SAME_LOSS:
        return "float16", loss, halved
    return "float32", full, model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", help="of trained models; without, all")
    parser.add_argument("--runs", type=Path, required=True, help="folder of all run directories")
    options = parser.parse_args()
    for name in options.names or NAMED:
        card = make_trained_model(name, NAMED[name], options.runs)
        print(f"{name}: {card.line()}, weights in {card.weights}", flush=True)


if __name__ == "__main__":
    main()
