"""Codes in a safetensors file.

    latents  (N, *latent_shape) float32   the codes, in the order of the images
    names    (bytes,) uint8               JSON, UTF-8: a list of the N names of the images

Rounded to a few bits, in place of `latents`:

    lowest   (*latent_shape) float32      of each number of a code, over all images
    highest  (*latent_shape) float32
    levels   (N, bytes) uint8             as `packed_levels` packs them

The metadata holds `format`, `bits` where there are levels, and `model`, the SHA-256 of the weights that made
the latents. A file of another program may lack names and metadata.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mixcoder.errors import ArgumentError, DataError, describe_type, first_line
from mixcoder.inference.packed_levels import bytes_of_code, pack_levels, unpack_levels
from mixcoder.io.atomic_file import replacing
from mixcoder.io.json_file import check_plain_file
from mixcoder.io.safetensors_header import Entry, safetensors_header
from mixcoder.models.code_grid import CodeGrid, CodeRange, check_bits
from mixcoder.models.modes import joined
from mixcoder.registry.signatures import check_path
from mixcoder.text.sanitize import sanitize

FORMAT = "mixcoder codes 1"
ROUNDED_FORMAT = "mixcoder codes 2"
_FORMATS = (FORMAT, ROUNDED_FORMAT)
_OUR_FORMAT = re.compile(r"mixcoder codes \d+")
_HEADER_BYTES = 4096
_CHUNK_NUMBERS = 2**18
"""Of codes that are rounded at a time: a number takes up to 16 bytes for its bits, and some more."""
_MOST_AXES = 64
"""Of latents (N, *latent_shape): torch computes with no more."""
_FILE = "the path of a file of codes"


@dataclass(frozen=True)
class Codes:
    """A latent for each of some images, with the names of the images.

    Attributes:
        names: of the images.
        latents: (N, *latent_shape) float32, on the CPU.
        model: SHA-256 (hex) of the weights that made the latents; empty where unknown.
        bits: of each number in a file, 1 to 16; None for float32.

    Raises:
        ArgumentError: `latents` are none, there are not as many names, or no such bits.
    """

    names: list[str]
    latents: Tensor
    model: str = ""
    bits: int | None = None

    def __post_init__(self) -> None:
        check_bits(self.bits)
        latents, names = self.latents, self.names
        if not (isinstance(latents, Tensor) and latents.is_floating_point() and latents.ndim > 1):
            wanted = "must be a torch.Tensor (N, …) of floating point numbers"
            raise ArgumentError("latents", f"{wanted}, got {describe_type(latents)}")
        if latents.ndim > _MOST_AXES:
            raise ArgumentError("latents", f"must have at most {_MOST_AXES} axes, got {latents.ndim:,}")
        if latents.is_meta:
            raise ArgumentError("latents", "are on the meta device, where there are no numbers")
        if not (isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)):
            raise ArgumentError("names", f"must be a list of texts, got {describe_type(names)}")
        if not len(names) == len(latents) > 0:
            raise ArgumentError("", f"there are {len(latents):,} latents and {len(names):,} names")

    def __len__(self) -> int:
        return len(self.latents)

    def rounded(self, bits: int) -> Codes:
        """Returns codes whose numbers have `bits` bits: 2^bits even levels between lowest and highest value.

        Raises:
            ArgumentError: `bits` is no number from 1 to 16.
            DataError: a code is not finite.
        """
        check_bits(bits)
        found = CodeRange()
        for names, latents in self._chunks():
            check_finite(names, latents)
            found.include(latents)
        grid = found.grid(bits)
        latents = joined(grid.rounded(latents.float()) for _, latents in self._chunks())
        return replace(self, latents=latents, bits=bits)

    def save(self, path: str | Path) -> None:
        """Writes the codes to a safetensors file, whole or not at all.

        Raises:
            DataError: a code is to be rounded and not finite.
            WriteError: the file cannot be written.
        """
        write_codes(check_path("path", path, _FILE), self._chunks(), self.model, self.bits)

    @classmethod
    def open(cls, path: str | Path) -> Codes:
        """Returns the codes of a file; those in float32 are mapped into memory rather than read.

        Raises:
            DataError: the file is not there, or does not hold codes.
        """
        file_path = check_path("path", path, _FILE)
        path = sanitize(str(path), 200)
        tensors, metadata = _read(file_path, path)
        bits = _stated_bits(path, metadata) if "levels" in tensors else None
        latents = tensors["latents"] if bits is None else _latents_of_levels(path, tensors, bits)
        if latents.dtype != torch.float32 or latents.ndim < 2 or not latents.numel():
            raise DataError(f"{path}: latents must be float32 (N, …), not {_form(latents)}")
        listed = tensors.get("names")
        names = [str(i) for i in range(len(latents))] if listed is None else _names(path, listed)
        if len(names) != len(latents):
            raise DataError(f"{path}: holds {len(latents):,} latents and {len(names):,} names")
        return cls(names, latents, metadata.get("model", ""), bits)

    def _chunks(self) -> Iterator[tuple[list[str], Tensor]]:
        """Yields names and latents (B, *latent_shape) of a few codes at a time."""
        size = _chunk_size(self.latents.shape[1:])
        for start in range(0, len(self), size):
            yield self.names[start : start + size], self.latents[start : start + size]


def check_finite(names: list[str], latents: Tensor) -> None:
    """Checks that all numbers of some codes are finite.

    Raises:
        DataError: one is not; names the image.
    """
    bad = torch.nonzero(~torch.isfinite(latents).flatten(1).all(1))
    if len(bad):
        raise DataError(f"the code of {sanitize(names[int(bad[0])], 200)} holds numbers that are not finite")


def write_codes(
    path: Path, batches: Iterable[tuple[list[str], Tensor]], model: str, bits: int | None = None
) -> int:
    """Writes batches of names and latents (B, *latent_shape) as they come; returns how many images.

    Args:
        path: the file, which holds all of them in the end, or what it held before.
        batches: at least one.
        model: SHA-256 (hex) of the weights.
        bits: of each number, 1 to 16; None for float32.

    Raises:
        DataError: a code is to be rounded and not finite.
        WriteError: the file cannot be written.
    """
    check_bits(bits)
    with replacing(path) as part, part.open("wb") as file:
        if bits is None:
            return _write_floats(file, batches, {"format": FORMAT, "model": model})
        return _write_rounded(file, batches, bits, {"format": ROUNDED_FORMAT, "model": model})


def _write_floats(
    file: IO[bytes], batches: Iterable[tuple[list[str], Tensor]], metadata: dict[str, str]
) -> int:
    names: list[str] = []
    shape: tuple[int, ...] = ()
    file.seek(_HEADER_BYTES)
    for names_of_batch, latents in batches:
        names += names_of_batch
        shape = tuple(latents.shape[1:])
        file.write(_bytes_of(latents))
    text = json.dumps(names).encode()
    file.write(text)
    tensors = {"latents": Entry("F32", (len(names), *shape)), "names": Entry("U8", (len(text),))}
    file.seek(0)
    file.write(safetensors_header(tensors, metadata, _HEADER_BYTES))
    return len(names)


def _write_rounded(
    file: IO[bytes], batches: Iterable[tuple[list[str], Tensor]], bits: int, metadata: dict[str, str]
) -> int:
    """Writes rounded codes by way of a file without a name, as their range is known only in the end."""
    names: list[str] = []
    found = CodeRange()
    with TemporaryFile(dir=Path(file.name).parent) as floats:
        for names_of_batch, latents in batches:
            check_finite(names_of_batch, latents)
            found.include(latents)
            names += names_of_batch
            floats.write(_bytes_of(latents))
        grid = found.grid(bits)
        shape, text = tuple(grid.lowest.shape), json.dumps(names).encode()
        row_bytes = bytes_of_code(math.prod(shape), bits)
        tensors = {
            "lowest": Entry("F32", shape),
            "highest": Entry("F32", shape),
            "levels": Entry("U8", (len(names), row_bytes)),
            "names": Entry("U8", (len(text),)),
        }
        file.write(safetensors_header(tensors, {**metadata, "bits": str(bits)}))
        file.write(_bytes_of(grid.lowest) + _bytes_of(grid.highest))
        floats.seek(0)
        code_bytes = 4 * math.prod(shape)
        while content := floats.read(_chunk_size(shape) * code_bytes):
            latents = torch.frombuffer(bytearray(content), dtype=torch.float32).reshape(-1, *shape)
            file.write(pack_levels(grid.levels(latents).flatten(1).numpy(), bits).tobytes())
        file.write(text)
    return len(names)


def _bytes_of(latents: Tensor) -> bytes:
    return latents.detach().float().cpu().contiguous().numpy().tobytes()


def _chunk_size(latent_shape: Iterable[int]) -> int:
    """Returns how many codes are rounded at a time."""
    return max(1, _CHUNK_NUMBERS // max(1, math.prod(latent_shape)))


def _read(file_path: Path, path: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Returns the tensors of a file of codes, mapped into memory, and its metadata.

    Raises:
        DataError: the file is not there, or lacks codes.
    """
    try:
        check_plain_file(file_path)
        with safe_open(file_path, framework="pt") as file:
            keys, metadata = set(file.keys()), file.metadata() or {}
            _check_keys(path, keys, metadata)
            wanted = keys & {"latents", "names", "lowest", "highest", "levels"}
            for key in sorted(wanted):
                _check_axes(path, key, len(file.get_slice(key).get_shape()))
            return {key: file.get_tensor(key) for key in wanted}, metadata
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise DataError(f"{path}: is not a file of codes ({reason or first_line(error)})") from error


def _check_axes(path: str, key: str, axes: int) -> None:
    """Checks that torch can compute with a tensor of a file, and with the latents of a range.

    Raises:
        DataError: it has too many axes.
    """
    most = _MOST_AXES - (key in ("lowest", "highest"))  # latents have one more, that of the images
    if axes > most:
        raise DataError(f"{path}: {key} must have at most {most} axes, not {axes:,}")


def _check_keys(path: str, keys: set[str], metadata: Mapping[str, str]) -> None:
    """Checks that a file holds codes of one of the two forms.

    Raises:
        DataError: it does not.
    """
    stated = metadata.get("format", "")
    if _OUR_FORMAT.fullmatch(stated) and stated not in _FORMATS:
        raise DataError(f"{path}: is of a later version of Mixcoder ({sanitize(stated, 50)})")
    if "levels" not in keys and "latents" not in keys:
        raise DataError(f"{path}: holds no 'latents'")
    if "levels" in keys and "latents" in keys:
        raise DataError(f"{path}: holds both 'latents' and 'levels'")
    missing = [key for key in ("lowest", "highest") if "levels" in keys and key not in keys]
    if missing:
        raise DataError(f"{path}: holds 'levels' but no '{missing[0]}'")


def _stated_bits(path: str, metadata: Mapping[str, str]) -> int:
    stated = metadata.get("bits", "")
    if not re.fullmatch(r"[1-9]|1[0-6]", stated):
        raise DataError(f"{path}: its metadata must state 'bits' from 1 to 16, not '{sanitize(stated, 50)}'")
    return int(stated)


def _latents_of_levels(path: str, tensors: Mapping[str, Tensor], bits: int) -> Tensor:
    """Returns the latents (N, *latent_shape) float32 of a file of levels.

    Raises:
        DataError: the tensors do not fit each other.
    """
    lowest, highest, levels = (tensors[key].clone() for key in ("lowest", "highest", "levels"))
    is_range = lowest.dtype == highest.dtype == torch.float32 and lowest.shape == highest.shape
    if not is_range or not lowest.ndim or not lowest.numel():
        forms = f"{_form(lowest)} and {_form(highest)}"
        raise DataError(f"{path}: lowest and highest must be float32 of one shape, not {forms}")
    if not bool((lowest.isfinite() & highest.isfinite() & (lowest <= highest)).all()):
        raise DataError(f"{path}: lowest and highest must be finite, and lowest nowhere above highest")
    row = bytes_of_code(lowest.numel(), bits)
    if levels.dtype != torch.uint8 or levels.shape[1:] != (row,) or not len(levels):
        raise DataError(f"{path}: levels must be uint8 (N, {row}), not {_form(levels)}")
    grid = CodeGrid(lowest, highest, bits)
    numbers, size = lowest.numel(), _chunk_size(lowest.shape)
    starts = range(0, len(levels), size)
    chunks = (unpack_levels(levels[start : start + size].numpy(), numbers, bits) for start in starts)
    return joined(grid.latents(torch.from_numpy(chunk).reshape(-1, *lowest.shape)) for chunk in chunks)


def _form(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def _names(path: str | Path, listed: Tensor) -> list[str]:
    try:
        names = json.loads(listed.numpy().tobytes())
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: its names are not JSON ({sanitize(str(error), 100)})") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path}: its names are not a list of texts")
    return names
