"""A trained model as two ONNX files, proven to compute what the model does.

            ┌▶ images (batch, C, H, W) ─────────▶ latents (batch, *latent_shape) ─┐
    model ──┤                                                                     ├─▶ two ONNX files
            └▶ latents (batch, *latent_shape) ──▶ images (batch, C, H, W) ────────┘

The files are written once onnxruntime computes the same as torch.
"""

from __future__ import annotations

import json
import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mixcoder import __version__
from mixcoder.errors import ExportError, MixcoderError, first_line
from mixcoder.experiments.runs.model_files import hash_weights
from mixcoder.experiments.runs.run_directory import Weights, find_run
from mixcoder.inference.trained import open_model
from mixcoder.io.atomic_file import replacing
from mixcoder.models.autoencoder import Autoencoder
from mixcoder.models.modes import evaluation_mode
from mixcoder.registry.signatures import check_path
from mixcoder.torch_private import trace_with_gradients

if TYPE_CHECKING:
    import onnx

TOLERANCE = 1e-5
"""How far an element may be from torch's: by this, or by this part of the largest."""
BATCHES = (1, 2, 65)
"""Batch sizes with which the files are compared with torch."""
_LARGEST_BYTES = 2**31 - 2**20
_PACKAGES = ("onnx", "onnxruntime", "onnxscript")


class _Encoder(nn.Module):
    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model.encode(images)


class _Decoder(nn.Module):
    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, latents: Tensor) -> Tensor:
        return self.model.decode(latents)


def export_onnx(run: str | Path | nn.Module, folder: str | Path, weights: Weights = "final") -> list[Path]:
    """Writes `encoder.onnx` and `decoder.onnx`, for batches of any size.

    The encoder takes `images` (batch, C, H, W) float32 in [0, 1] and gives `latents`
    (batch, *latent_shape); the decoder takes these and gives `images`, not clipped to [0, 1]. The metadata
    of both says so: image_shape, value_range, latent_shape, the run's recipe and the weights as hashes.

    Args:
        run: the folder of a finished run, or a model, which stays as it is and where it is. The files
            compute in float32, also those of a model of another type.
        folder: where to write.
        weights: of a run: "final", or "best", those of its smallest validation loss.

    Returns:
        The paths of the two files.

    Raises:
        ArgumentError: an argument is of another type; says what it must be.
        ExportError: a package is missing, or onnxruntime does not compute the same as torch; then
            nothing is written.
        RunDirectoryError: there is no trained model.
    """
    _check_packages()
    given, folder = open_model(run, weights), check_path("folder", folder, "a folder to write to")
    model = _in_float32(given)
    _check_size(model)
    metadata = _metadata(run, given)
    encoder, decoder = folder / "encoder.onnx", folder / "decoder.onnx"
    with evaluation_mode(model), replacing(encoder) as first, replacing(decoder) as second:
        images = _example_images(model)
        halves = {"encoder": (_Encoder(model), images), "decoder": (_Decoder(model), model.encode(images))}
        for part, (name, (half, values)) in zip((first, second), halves.items(), strict=True):
            _write(part, _to_onnx(half.eval(), values[:2], name == "encoder"), metadata)
            _check_file(part, half, values, name)
    return [encoder, decoder]


def _example_images(model: Autoencoder) -> Tensor:
    """Returns random images (B, C, H, W) in [0, 1], for the largest batch."""
    shape, generator = (max(BATCHES), *model.image_shape), torch.Generator().manual_seed(0)
    return torch.rand(shape, generator=generator, dtype=torch.float32, device="cpu")


def _in_float32(model: Autoencoder) -> Autoencoder:
    """Returns the model itself where it is in float32 on the CPU, else a copy that is.

    Raises:
        ExportError: the model cannot be copied.
    """
    tensors = list(chain(model.parameters(), model.buffers()))
    floating = [tensor for tensor in tensors if tensor.is_floating_point()]
    if all(tensor.is_cpu for tensor in tensors) and all(tensor.dtype == torch.float32 for tensor in floating):
        return model
    local = {id(tensor): tensor.detach().to("cpu", copy=True) for tensor in tensors}
    local |= {
        id(parameter): nn.Parameter(local[id(parameter)], parameter.requires_grad)
        for parameter in model.parameters()
    }
    try:
        return deepcopy(model, local).float()
    except Exception as error:
        raise ExportError(
            f"the model cannot be copied ({first_line(error)}); export model.float().cpu()"
        ) from error


def _check_packages() -> None:
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise ExportError(f'this needs {", ".join(missing)}; pip install "mixcoder[onnx]" brings them')


def _check_size(model: Autoencoder) -> None:
    size = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    if size > _LARGEST_BYTES:
        raise ExportError(f"the weights are {size / 1e9:.1f} GB; one ONNX file holds no more than 2")


def _metadata(run: str | Path | nn.Module, model: Autoencoder) -> dict[str, str]:
    """Returns what a program needs to know to use the files, each value as JSON."""
    values: dict[str, Any] = {
        "image_shape": model.image_shape,
        "value_range": [0, 1],
        "latent_shape": model.latent_shape,
        "weights_sha256": hash_weights(model),
        "mixcoder_version": __version__,
    }
    if not isinstance(run, nn.Module):
        with suppress(MixcoderError):  # the model is there all the same
            stated = find_run(Path(run)).read_run()
            values |= {"name": stated.experiment, "recipe_hash": stated.digest}
    return {key: json.dumps(value) for key, value in values.items()}


def _to_onnx(half: nn.Module, example: Tensor, is_encoder: bool) -> onnx.ModelProto:
    """Returns an encoder or a decoder in ONNX's form.

    Raises:
        ExportError: it has none.
    """
    with suppress(Exception):  # of torch's many; such as for a gradient within the forward
        return _exported(half, example, is_encoder)
    name = "encoder" if is_encoder else "decoder"
    try:
        return _exported(trace_with_gradients(half, example), example, is_encoder)
    except Exception as error:
        reason = first_line(error)
        raise ExportError(f"torch cannot export the {name} ({reason}); wrote nothing") from error


def _exported(half: nn.Module, example: Tensor, is_encoder: bool) -> onnx.ModelProto:
    names = ("images", "latents") if is_encoder else ("latents", "images")
    batch = torch.export.Dim("batch", min=1)
    with _quiet():
        program = torch.onnx.export(
            half,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: batch},),
            input_names=names[:1],
            output_names=names[1:],
            external_data=False,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


@contextmanager
def _quiet() -> Iterator[None]:
    """Context without the exporter's own warnings, about which no user of ours can do anything."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)


def _write(path: Path, converted: onnx.ModelProto, metadata: dict[str, str]) -> None:
    import onnx

    graph = converted.graph
    for entry in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del entry.metadata_props[:]  # where in our source a node comes from
        entry.doc_string = ""
    onnx.helper.set_model_props(converted, metadata)
    converted.producer_name, converted.producer_version = "mixcoder", __version__
    onnx.checker.check_model(converted, full_check=True)
    path.write_bytes(converted.SerializeToString())


def _check_file(path: Path, half: nn.Module, values: Tensor, name: str) -> None:
    """Checks that a file computes what `half` does, on batches of several sizes.

    Raises:
        ExportError: the file does not; says by how much it is off.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        for size in BATCHES:
            batch = values[:size].clone()
            expected = half(batch)
            [found] = session.run(None, {session.get_inputs()[0].name: batch.numpy()})
            _check_equal(torch.from_numpy(found), expected, name, size)
    except ExportError:
        raise
    except Exception as error:  # onnxruntime has an error class of its own for each thing that fails
        raise ExportError(
            f"onnxruntime cannot run the {name} ({first_line(error)}); wrote nothing"
        ) from error


def _check_equal(found: Tensor, expected: Tensor, name: str, size: int) -> None:
    if found.shape != expected.shape:
        raise ExportError(
            f"the {name} makes {tuple(found.shape)} in onnxruntime, {tuple(expected.shape)} in torch; "
            "wrote nothing"
        )
    off = (found - expected).abs().max().item()
    allowed = TOLERANCE * max(1.0, expected.abs().max().item())
    if not (math.isfinite(off) and off <= allowed):
        raise ExportError(
            f"the {name} is off by {off:.3g} in onnxruntime, with {size} images at a time; no more than "
            f"{allowed:.3g} is allowed; wrote nothing"
        )
