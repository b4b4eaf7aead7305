"""Commands that use a trained model: reconstruct, encode, decode, score, walk, export."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from torch import Tensor

from mixcoder.cli.options import (
    BitsOption,
    DeviceOption,
    FitOption,
    Format,
    FormatOption,
    ImagesArgument,
    OpenDataOption,
    PictureOption,
    RunArgument,
    StepsOption,
    WeightsOf,
    WeightsOption,
    WhereOption,
)
from mixcoder.cli.output import print_note, print_rows, print_text
from mixcoder.cli.progress import data_progress
from mixcoder.cli.selection import select_run
from mixcoder.data import to_float
from mixcoder.device import resolve_device
from mixcoder.errors import ArgumentError
from mixcoder.experiments.results.columns import MEASURE_COLUMNS
from mixcoder.experiments.runs.model_files import hash_weights
from mixcoder.experiments.runs.run_data import allow_all, allow_local, load_run_data
from mixcoder.experiments.runs.run_directory import RunDirectory, load
from mixcoder.export.onnx import export_onnx
from mixcoder.inference import walking
from mixcoder.inference.coding import Coding, with_bits
from mixcoder.inference.decoding import decode_batches, write_pictures
from mixcoder.inference.encoding import encode_batches
from mixcoder.inference.image_stream import ImageBatch, ImageStream
from mixcoder.inference.latents_file import Codes, write_codes
from mixcoder.inference.packed_levels import bytes_of_code
from mixcoder.inference.reconstruction import coded_grid, reconstruction_grid
from mixcoder.inference.scoring import rank_scores, score_batches
from mixcoder.inference.trained import open_images
from mixcoder.models import Autoencoder
from mixcoder.pixels.pictures import picture_grid, picture_row, save_animation, save_picture
from mixcoder.text.sanitize import sanitize
from mixcoder.text.table import Column

CountOption = Annotated[int, typer.Option("--count", "-n", min=1, max=10_000, help="how many images")]
ScaleOption = Annotated[int | None, typer.Option(min=1, max=64, help="picture pixels for each pixel")]
_LARGEST_GRID = 10_000


def reconstruct(
    run: RunArgument,
    output: PictureOption,
    images: Annotated[
        list[str] | None,
        typer.Argument(
            help="files, folders or data sources; without, validation images", metavar="[IMAGES]..."
        ),
    ] = None,
    where: WhereOption = None,
    count: CountOption = 32,
    scale: ScaleOption = None,
    fit: FitOption = False,
    open_data: OpenDataOption = False,
    steps: Annotated[
        str | None, typer.Option(help="steps of refinement, such as 0,1,2: a reconstruction with each")
    ] = None,
    weights: WeightsOption = WeightsOf.final,
) -> None:
    """Draw images with their reconstructions below, eight a row."""
    counts = _step_counts(steps)
    directory = select_run(run, where)
    if images:
        with _open_model_and_images(directory, images, fit, "cpu", weights) as (model, batches):
            chosen = _first_images(batches, count)
    else:
        model = load(directory.path, weights.value)
        data = load_run_data(directory.read_run(), allow_all if open_data else allow_local)
        chosen = data.validation.images[:count]
    save_picture(reconstruction_grid(model, to_float(chosen), scale, counts), output)
    print_text(output)


def encode(
    run: RunArgument,
    images: ImagesArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="file of codes to write: .safetensors")],
    where: WhereOption = None,
    fit: FitOption = False,
    device: DeviceOption = "auto",
    bits: BitsOption = None,
    steps: StepsOption = None,
    weights: WeightsOption = WeightsOf.final,
) -> None:
    """Write the codes of images to a safetensors file, with the images' names, in their order."""
    if output.suffix != ".safetensors":
        raise ArgumentError("output", f"'{output}' must end in .safetensors")
    with _open_model_and_images(select_run(run, where), images, fit, device, weights) as (model, batches):
        encoded = encode_batches(model, _show_progress(batches, "encoding"), steps)
        count = write_codes(output, encoded, hash_weights(model), bits)
    size = "" if bits is None else f", {bytes_of_code(math.prod(model.latent_shape), bits):,} bytes each"
    print_text(f"{output}: {count:,} codes of shape {model.latent_shape}{size}")


def decode(
    run: RunArgument,
    codes: Annotated[Path, typer.Argument(help="file of codes, as encode writes it")],
    output: Annotated[Path, typer.Option("--output", "-o", help="folder for PNG files, or one picture")],
    where: WhereOption = None,
    scale: ScaleOption = None,
    device: DeviceOption = "auto",
    weights: WeightsOption = WeightsOf.final,
) -> None:
    """Write the images of codes: a PNG file for each, or one picture of all."""
    model = load(select_run(run, where).path, weights.value).to(resolve_device(device))
    opened = Codes.open(codes)
    if output.is_dir() or not output.suffix:
        count = write_pictures(decode_batches(model, opened), len(opened), output, scale or 1)
        print_text(f"{output}: {count:,} images")
        return
    if len(opened) > _LARGEST_GRID:
        raise ArgumentError("output", f"{len(opened):,} images are too many for one picture; name a folder")
    grid = torch.cat([images for _, images in decode_batches(model, opened)]).clamp(0, 1)
    save_picture(picture_grid(grid, scale), output)
    print_text(output)


def score(
    run: RunArgument,
    images: ImagesArgument,
    where: WhereOption = None,
    fit: FitOption = False,
    grid: Annotated[Path | None, typer.Option(help="picture to write: the worst, above their copies")] = None,
    count: CountOption = 32,
    scale: ScaleOption = None,
    device: DeviceOption = "auto",
    bits: BitsOption = None,
    steps: StepsOption = None,
    weights: WeightsOption = WeightsOf.final,
    format: FormatOption = Format.csv,
) -> None:
    """Print the error of each image, the worst first: what the model has not seen the like of."""
    with _open_model_and_images(select_run(run, where), images, fit, device, weights) as (model, batches):
        coding = with_bits(Coding(steps), bits, model, _show_progress(batches, "encoding"))
        scored = score_batches(model, _show_progress(batches, "scoring"), coding)
        scores, worst = rank_scores(scored, count if grid else 0)
    if grid:
        save_picture(coded_grid(model.cpu(), to_float(torch.stack(worst)), scale, [coding]), grid)
    columns = [
        Column("name", "name"),
        Column("mse", "mse", lambda error: f"{error:.6g}", is_number=True),
        MEASURE_COLUMNS["psnr"],
    ]
    print_rows([asdict(each) for each in scores], columns, format)


def walk(
    run: RunArgument,
    start: Annotated[str, typer.Argument(help="an image, or one of a data source: digits:7", metavar="A")],
    end: Annotated[str, typer.Argument(help="another", metavar="B")],
    output: Annotated[Path, typer.Option("--output", "-o", help="picture to write, or .gif to move")],
    where: WhereOption = None,
    steps: Annotated[int, typer.Option(min=2, max=1_000, help="images on the way, both ends included")] = 9,
    scale: ScaleOption = None,
    fit: FitOption = False,
    weights: WeightsOption = WeightsOf.final,
) -> None:
    """Draw what lies between two images in the space of codes."""
    images = walking.walk(select_run(run, where).path, start, end, steps, fit, weights.value).clamp(0, 1)
    if output.suffix.lower() == ".gif":
        save_animation(images, output, scale)
    else:
        save_picture(picture_row(images, scale), output)
    print_text(output)


def export(
    run: RunArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="folder to write to")],
    where: WhereOption = None,
    weights: WeightsOption = WeightsOf.final,
) -> None:
    """Write encoder.onnx and decoder.onnx, checked with onnxruntime to compute what the model does."""
    for path in export_onnx(select_run(run, where).path, output, weights.value):
        print_text(path)


@contextmanager
def _open_model_and_images(
    directory: RunDirectory, images: list[str], fit: bool, device: str, weights: WeightsOf
) -> Iterator[tuple[Autoencoder, ImageStream]]:
    """Yields the model on its device, and the images for it; in the end, prints which could not be read."""
    model = load(directory.path, weights.value).to(resolve_device(device))
    stream = open_images(directory.path, model, images, fit)
    yield model, stream
    if note := stream.note():
        print_note(note)


def _show_progress(batches: Iterable[ImageBatch], what: str) -> Iterator[ImageBatch]:
    """Yields the same batches, and shows how many images have passed."""
    with data_progress(Console(stderr=True)) as start:
        progress, so_far = start(what, "images"), 0
        for batch in batches:
            yield batch
            so_far += len(batch.names)
            progress(so_far, None)


def _step_counts(steps: str | None) -> list[int]:
    """Returns the numbers of steps that an option lists.

    Raises:
        ArgumentError: there is anything else in the list.
    """
    words = [word.strip() for word in steps.split(",")] if steps is not None else []
    if not all(word.isascii() and word.isdigit() and len(word) < 5 for word in words):
        right = "must be whole numbers, separated by commas, such as 0,1,2"
        raise ArgumentError("steps", f"'{sanitize(steps or '')}' {right}")
    return list(map(int, words))


def _first_images(batches: Iterable[ImageBatch], count: int) -> Tensor:
    """Returns the first `count` images (N, C, H, W) uint8."""
    images = []
    for batch in batches:
        images.append(batch.images)
        if sum(map(len, images)) >= count:
            break
    return torch.cat(images)[:count]
