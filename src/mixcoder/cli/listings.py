"""Commands that list what there is: models, data, experiments, and the schema of experiment files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from mixcoder.cli.options import Format, FormatOption
from mixcoder.cli.output import print_note, print_rows, print_text
from mixcoder.cli.progress import data_progress
from mixcoder.data import SOURCES, DataSource, create_source
from mixcoder.errors import ArgumentError, CacheError, DataError, MixcoderError
from mixcoder.experiments.file.reference import reference_markdown
from mixcoder.experiments.file.schema import schema_json
from mixcoder.experiments.file.shipped import copy_shipped, shipped_rows
from mixcoder.experiments.file.yaml_file import parse_assignment
from mixcoder.io.atomic_file import write_atomically
from mixcoder.models import MIXERS, MODELS, create_model
from mixcoder.models.activations import ACTIVATIONS
from mixcoder.models.cost import count_costs
from mixcoder.models.dispatch import without_elements
from mixcoder.models.named import (
    CARD,
    ModelCard,
    is_trained_name,
    read_card,
    trained_description,
    trained_folder,
    trained_names,
)
from mixcoder.models.summary import count_parameters, layer_rows
from mixcoder.registry.docstrings import summary
from mixcoder.text.table import Column
from mixcoder.text.values import format_count, format_shape

SourceArguments = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="such as path=photos for folder")
]


class SchemaFormat(StrEnum):
    """A format of the schema of experiment files."""

    json = "json"
    md = "md"


def schema(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="file to write it to")] = None,
    format: Annotated[SchemaFormat, typer.Option("--format", help="json, or md to read")] = SchemaFormat.json,
) -> None:
    """Print the JSON Schema of experiment files, for editors: every key with its meaning."""
    text = schema_json() if format is SchemaFormat.json else reference_markdown()
    if output:
        write_atomically(output, text.encode())
        print_text(output)
    else:
        print(text, end="")


def models_ls(format: FormatOption = Format.text) -> None:
    """List the trained models, the kinds of models, the mixing layers and the activations."""
    cards = {name: read_card(trained_folder(name) / CARD) for name in trained_names()}
    smallest_first = sorted((card.params, name) for name, card in cards.items())
    rows = [{"kind": "trained", "name": name, "summary": cards[name].line()} for _, name in smallest_first]
    rows += [{"kind": "model", "name": name, "summary": summary(MODELS[name])} for name in MODELS]
    rows += [{"kind": "mixer", "name": name, "summary": summary(MIXERS[name])} for name in MIXERS]
    rows += [
        {"kind": "activation", "name": name, "summary": ACTIVATIONS[name].__name__} for name in ACTIVATIONS
    ]
    print_rows(rows, [Column("kind", "kind"), Column("name", "name"), Column("summary", "summary")], format)


def models_show(
    name: Annotated[str, typer.Argument(help="kind of models, or a trained model")],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="such as patch_size=4, in place of the example's"),
    ] = None,
    format: FormatOption = Format.text,
) -> None:
    """Show a model layer by layer, with shapes and parameters; of a trained one its figures too."""
    stated = trained_description(name)[1] if is_trained_name(name) else _example(name)
    chosen = {**stated, **dict(map(parse_assignment, arguments or []))}
    with without_elements():
        model = create_model(name, **chosen)
    columns = [
        Column("layer", "layer"),
        Column("module", "module"),
        Column("output_shape", "output shape", format_shape),
        Column("params", "params", format_count, is_number=True),
    ]
    print_rows(layer_rows(model), columns, format)
    if format is Format.text:
        print_text(f"{name}: {', '.join(f'{key}={value}' for key, value in chosen.items())}")
        print_text(
            f"{format_count(count_parameters(model))} parameters, latent shape {model.latent_shape}, "
            f"compression ratio {model.compression_ratio:.4g}"
        )
        costs = count_costs(model)
        print_text(
            f"multiply-adds of an image: {format_count(costs.encode_madds)} to encode, "
            f"{format_count(costs.decode_madds)} to decode, {format_count(costs.train_madds)} to train"
        )
    if format is Format.text and is_trained_name(name) and not arguments:
        _print_card(read_card(trained_folder(name) / CARD))


def _example(name: str) -> Mapping[str, Any]:
    """Returns the example's arguments of a kind of models.

    Raises:
        ArgumentError: there is no such kind; of a mixing layer, where it is told of.
    """
    if name in MIXERS and name not in MODELS:
        raise ArgumentError(
            "",
            f"'{name}' is a mixing layer, not a kind of models; see docs/mixing-layers.md; "
            f"mixcoder models show mixer mixer={name} shows it in a model",
        )
    return MODELS.find(name, trained_names).example


def _print_card(card: ModelCard) -> None:
    """Prints what the weights of a trained model are."""
    print_text(f"{card.summary} {card.line()}.")
    print_text(
        f"Weights: seed {card.seed}, validation loss {card.own_validation_loss:.6f}, {card.weights}, "
        f"SHA-256 {card.weights_sha256}."
    )
    print_text(f"Figures: {card.command}")


def data_ls(format: FormatOption = Format.text) -> None:
    """List the data sources, and which of them are on this machine."""
    columns = [
        Column("source", "source"),
        Column("image_shape", "image shape", format_shape),
        Column("status", "status"),
    ]
    print_rows([_source_row(name) for name in SOURCES], columns, format)


def data_fetch(
    name: Annotated[str, typer.Argument(help="data source")],
    arguments: SourceArguments = None,
    origin: Annotated[
        str | None, typer.Option("--from", help="in place of the well-known address: a folder's, or a zip's")
    ] = None,
    sha256: Annotated[str | None, typer.Option("--sha256", help="published checksum of the zip")] = None,
) -> None:
    """Bring a data source's files to this machine, or pack a folder of images."""
    source = _create_source(name, arguments)
    with data_progress(Console(stderr=True)) as progress:
        source.fetch(origin, sha256, progress)
        note = source.prepare(progress)
    data = source.load()
    if note:
        print_note(note)
    print_text(f"{name}: {len(data.train):,} images to train on, {len(data.validation):,} to validate on")
    print_text(source.status())


def data_verify(
    name: Annotated[str, typer.Argument(help="data source")],
    arguments: SourceArguments = None,
    format: FormatOption = Format.text,
) -> None:
    """Read a data source's files whole and compare their checksums with the published ones."""
    rows = _create_source(name, arguments).verify()
    print_rows(rows, [Column("file", "file"), Column("verdict", "verdict")], format)
    if any(row["verdict"].startswith("damaged") for row in rows):
        raise DataError(f"{name} is damaged; delete the files named above and run mixcoder data fetch {name}")


def experiments_ls(format: FormatOption = Format.text) -> None:
    """List the experiments that come with Mixcoder, with the result to expect."""
    columns = [
        Column("name", "name"),
        Column("runs", "runs", format_count, is_number=True),
        Column("trials", "trials", format_count, is_number=True),
        Column("expected", "expected"),
        Column("time", "time"),
    ]
    print_rows(shipped_rows(), columns, format)


def experiments_cp(
    name: Annotated[str, typer.Argument(help="such as mnist/kernel-sizes")],
    folder: Annotated[Path, typer.Argument(help="where to")] = Path(),
) -> None:
    """Copy an experiment, and the files it extends, to make it your own."""
    for path in copy_shipped(name, folder):
        print_text(path)


def _source_row(name: str) -> dict[str, Any]:
    """Returns the row of `data ls` for a source; for one with required arguments, what these are."""
    try:
        source = create_source(name)
        return {"source": name, "image_shape": list(source.image_shape), "status": source.status()}
    except CacheError as error:
        return {"source": name, "image_shape": None, "status": str(error)}
    except MixcoderError as error:
        return {"source": name, "image_shape": None, "status": f"ready once told: {error}"}


def _create_source(name: str, arguments: Sequence[str] | None) -> DataSource:
    return create_source(name, **dict(map(parse_assignment, arguments or [])))
