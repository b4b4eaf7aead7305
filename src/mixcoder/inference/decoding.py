"""Latents to images.

    latents (B, *latent_shape) ─ model.decode ─▶ images (B, C, H, W) ─▶ PNG files

The files are named after the images that were encoded.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy.typing as npt
from torch import Tensor, nn

from mixcoder.data.rows import as_tensor, is_array
from mixcoder.errors import ArgumentError, DataError, describe_type
from mixcoder.experiments.runs.model_files import hash_weights
from mixcoder.experiments.runs.run_directory import Weights
from mixcoder.inference.latents_file import Codes, check_finite
from mixcoder.inference.trained import open_model
from mixcoder.models.autoencoder import Autoencoder, device_and_dtype
from mixcoder.models.modes import evaluation_mode, joined
from mixcoder.pixels.pictures import save_picture, to_picture
from mixcoder.training.evaluation import safe_batch_size

_LONGEST_NAME = 100


def decode(
    run: str | Path | nn.Module,
    codes: Codes | str | Path | Tensor | npt.NDArray[Any],
    weights: Weights = "final",
) -> Tensor:
    """Returns the images (N, C, H, W) of codes: what `model(images)` gives, not clipped to [0, 1].

    Args:
        run: the folder of a finished run, or a model, which computes in its own type and stays as it is.
        codes: as `encode` gives them, a file of them, or latents (N, *latent_shape) in memory.
        weights: of a run: "final", or "best", those of its smallest validation loss.

    Raises:
        ArgumentError: an argument is of another type; says what it must be.
        DataError: `codes` are not of this model.
        RunDirectoryError: there is no trained model.
    """
    model = open_model(run, weights)
    return joined(images for _, images in decode_batches(model, _opened_codes(codes)))


def _opened_codes(codes: object) -> Codes:
    """Returns codes that a Python caller gives.

    Raises:
        ArgumentError: they are of another type; says what it must be.
    """
    if isinstance(codes, Codes):
        return codes
    if isinstance(codes, str | os.PathLike):
        return Codes.open(os.fspath(codes))
    if not is_array(codes):
        wanted = "must be as mixcoder.encode gives them, a file of them, or an array of latents"
        raise ArgumentError("codes", f"{wanted}, got {describe_type(codes)}")
    latents = as_tensor(codes, "codes")
    if not latents.is_floating_point():
        raise ArgumentError("codes", f"must be floats, got {describe_type(latents)}")
    return Codes([f"codes:{i}" for i in range(len(latents))], latents.float())


def decode_batches(model: Autoencoder, codes: Codes) -> Iterator[tuple[list[str], Tensor]]:
    """Yields names and images (B, C, H, W), on the CPU, of a few codes at a time; not clipped to [0, 1].

    Raises:
        DataError: `codes` are not of this model.
    """
    _check_codes(model, codes)
    size = safe_batch_size(model.image_shape)
    device, dtype = device_and_dtype(model)
    for start in range(0, len(codes), size):
        names = codes.names[start : start + size]
        latents = codes.latents[start : start + size].clone()  # a mapped file may be unaligned
        check_finite(names, latents)
        with evaluation_mode(model):
            images = model.decode(latents.to(device, dtype)).cpu()
        yield names, images


def write_pictures(batches: Iterable[tuple[list[str], Tensor]], count: int, folder: Path, scale: int) -> int:
    """Writes a PNG file for each of `count` images to `folder`; returns how many.

    Raises:
        WriteError: a file cannot be written.
    """
    index = 0
    for names, images in batches:
        for name, image in zip(names, images, strict=True):
            save_picture(to_picture(image, scale), folder / file_name(index, count, name))
            index += 1
    return index


def _check_codes(model: Autoencoder, codes: Codes) -> None:
    shape = tuple(codes.latents.shape[1:])
    if shape != model.latent_shape:
        raise DataError(f"the codes are of shape {shape}, the model's are {model.latent_shape}")
    if codes.model and codes.model != hash_weights(model):
        raise DataError("the codes were made by a model with other weights; decode them with that one")


def file_name(index: int, count: int, name: str) -> str:
    """Returns a name for the picture of code number `index` of `count`: by name, the pictures are in order.

    `name` may come from a stranger's file; the result leads into no other folder.
    """
    stem = re.sub(r"\.[A-Za-z]{1,4}$", "", name)
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", stem).strip("_")[-_LONGEST_NAME:]
    number = f"{index:0{len(str(max(count - 1, 0)))}}"
    return f"{number}-{readable}.png" if readable else f"{number}.png"
