"""Codes in a safetensors file.

    latents  (N, *latent_shape) float32   the codes, in the order of the images
    names    (bytes,) uint8               JSON, UTF-8: a list of the N names of the images

The metadata holds `model`, the SHA-256 of the weights that made the latents. A file of another program may
lack names and metadata.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mixcoder.errors import ArgumentError, DataError, describe_type, first_line
from mixcoder.io.atomic_file import replacing
from mixcoder.io.json_file import check_plain_file
from mixcoder.io.safetensors_header import Entry, safetensors_header
from mixcoder.registry.signatures import check_path
from mixcoder.text.sanitize import sanitize

FORMAT = "mixcoder codes 1"
_HEADER_BYTES = 4096
_FILE = "the path of a file of codes"


@dataclass(frozen=True)
class Codes:
    """A latent for each of some images, with the names of the images.

    Attributes:
        names: of the images.
        latents: (N, *latent_shape) float32, on the CPU.
        model: SHA-256 (hex) of the weights that made the latents; empty where unknown.

    Raises:
        ArgumentError: `latents` are none, or there are not as many names.
    """

    names: list[str]
    latents: Tensor
    model: str = ""

    def __post_init__(self) -> None:
        latents, names = self.latents, self.names
        if not (isinstance(latents, Tensor) and latents.is_floating_point() and latents.ndim > 1):
            wanted = "must be a torch.Tensor (N, …) of floating point numbers"
            raise ArgumentError("latents", f"{wanted}, got {describe_type(latents)}")
        if latents.is_meta:
            raise ArgumentError("latents", "are on the meta device, where there are no numbers")
        if not (isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)):
            raise ArgumentError("names", f"must be a list of texts, got {describe_type(names)}")
        if not len(names) == len(latents) > 0:
            raise ArgumentError("", f"there are {len(latents):,} latents and {len(names):,} names")

    def __len__(self) -> int:
        return len(self.latents)

    def save(self, path: str | Path) -> None:
        """Writes the codes to a safetensors file, whole or not at all.

        Raises:
            WriteError: the file cannot be written.
        """
        write_codes(check_path("path", path, _FILE), [(self.names, self.latents)], self.model)

    @classmethod
    def open(cls, path: str | Path) -> Codes:
        """Returns the codes of a file, mapped into memory rather than read.

        Raises:
            DataError: the file is not there, or does not hold codes.
        """
        file_path = check_path("path", path, _FILE)
        path = sanitize(str(path), 200)
        try:
            check_plain_file(file_path)
            with safe_open(file_path, framework="pt") as file:
                keys, metadata = set(file.keys()), file.metadata() or {}
                if "latents" not in keys:
                    raise DataError(f"{path}: holds no 'latents'")
                latents = file.get_tensor("latents")
                listed = file.get_tensor("names") if "names" in keys else None
        except FileNotFoundError:
            raise DataError(f"{path}: there is no such file") from None
        except (OSError, SafetensorError) as error:
            reason = error.strerror if isinstance(error, OSError) else None
            raise DataError(f"{path}: is not a file of codes ({reason or first_line(error)})") from error
        if latents.dtype != torch.float32 or latents.ndim < 2 or not latents.numel():
            form = f"{str(latents.dtype).removeprefix('torch.')} {tuple(latents.shape)}"
            raise DataError(f"{path}: latents must be float32 (N, …), not {form}")
        names = [str(i) for i in range(len(latents))] if listed is None else _names(path, listed)
        if len(names) != len(latents):
            raise DataError(f"{path}: holds {len(latents):,} latents and {len(names):,} names")
        return cls(names, latents, metadata.get("model", ""))


def write_codes(path: Path, batches: Iterable[tuple[list[str], Tensor]], model: str) -> int:
    """Writes batches of names and latents (B, *latent_shape) as they come; returns how many images.

    Args:
        path: the file, which holds all of them in the end, or what it held before.
        batches: at least one.
        model: SHA-256 (hex) of the weights.

    Raises:
        WriteError: the file cannot be written.
    """
    names: list[str] = []
    shape: tuple[int, ...] = ()
    with replacing(path) as part, part.open("wb") as file:
        file.seek(_HEADER_BYTES)
        for names_of_batch, latents in batches:
            names += names_of_batch
            shape = tuple(latents.shape[1:])
            file.write(latents.detach().float().cpu().contiguous().numpy().tobytes())
        text = json.dumps(names).encode()
        file.write(text)
        tensors = {"latents": Entry("F32", (len(names), *shape)), "names": Entry("U8", (len(text),))}
        file.seek(0)
        file.write(safetensors_header(tensors, {"format": FORMAT, "model": model}, _HEADER_BYTES))
    return len(names)


def _names(path: str | Path, listed: Tensor) -> list[str]:
    try:
        names = json.loads(listed.numpy().tobytes())
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: its names are not JSON ({sanitize(str(error), 100)})") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path}: its names are not a list of texts")
    return names
