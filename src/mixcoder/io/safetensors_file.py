"""Safetensors files: ours are written whole or not at all; those read, somebody else may have written.

    path ─▶ a plain file? ─▶ a header of bounded length ─▶ the names, shapes and types expected? ─▶ tensors

No memory is taken for a number before its header says what was expected.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mixcoder.errors import RunDirectoryError, WriteError, first_line, system_reason
from mixcoder.io.atomic_file import write_atomically
from mixcoder.io.json_file import LARGEST_BYTES, check_plain_file
from mixcoder.io.safetensors_header import Entry, safetensors_header
from mixcoder.text.sanitize import sanitize

_TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Makes `path` hold `tensors`; those on the CPU are not copied.

    The same tensors and metadata make the same bytes: safetensors' own writer orders metadata as it comes.

    Raises:
        WriteError: it could not be written, or not for certain; or the format lacks the type of a tensor.
    """
    # The widest elements first, so that all lie on multiples of their size.
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    for name, tensor in ordered:
        if tensor.dtype not in _TYPES:
            raise WriteError(f"cannot write {path}: {name} is of type {tensor.dtype}")
    entries = {name: Entry(_TYPES[tensor.dtype], tuple(tensor.shape)) for name, tensor in ordered}
    header = safetensors_header(entries, dict(sorted(metadata.items())))
    write_atomically(path, header, *(_bytes_of(tensor) for _, tensor in ordered))


def read_metadata(path: Path, refusal: str) -> dict[str, str]:
    """What a file says beside its tensors.

    Args:
        path: the file.
        refusal: what a file that cannot be read is not, such as "is not a checkpoint".

    Raises:
        RunDirectoryError: it is missing, no plain file, or damaged.
    """
    with _opened(path, refusal) as file:
        return file.metadata() or {}


def read_tensors(
    path: Path, expected: Mapping[str, Tensor], refusal: str, optional: Set[str] = frozenset()
) -> dict[str, Tensor]:
    """The tensors of a file, on the CPU, once their names, shapes and types are those expected.

    Args:
        path: the file.
        expected: tensors like those that it must hold; their numbers do not matter.
        refusal: what a file that holds others is not, such as "is not a checkpoint".
        optional: names that may be missing there, or surplus.

    Raises:
        RunDirectoryError: it is missing, no plain file, or damaged, or holds others; names the first.
    """
    with _opened(path, refusal) as file:
        passed_over = set(optional) - (set(file.keys()) & set(expected))
        wanted = {name: it for name, it in expected.items() if name not in passed_over}
        difference = _first_difference(file, set(file.keys()) - passed_over, wanted)
        if difference:
            raise RunDirectoryError(f"{path}: {refusal} ({difference})")
        return {name: file.get_tensor(name) for name in wanted}


def _bytes_of(tensor: Tensor) -> memoryview:
    """The elements as they lie in memory, one after the other."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)  # (elements,)
    return flat.view(torch.uint8).numpy().data


@contextmanager
def _opened(path: Path, refusal: str) -> Iterator[Any]:
    """The file with its header read."""
    try:
        check_plain_file(path)
        with path.open("rb") as file:
            header_bytes = int.from_bytes(file.read(8), "little")
        if header_bytes > LARGEST_BYTES:
            raise RunDirectoryError(f"{path}: {refusal} (it states a header of {header_bytes:,} bytes)")
        with safe_open(path, framework="pt") as opened:
            yield opened
    except OSError as error:
        raise RunDirectoryError(f"{path}: {system_reason(error)}") from error
    except (SafetensorError, MemoryError) as error:
        raise RunDirectoryError(f"{path}: {refusal} ({sanitize(first_line(error), 200)})") from error


def _first_difference(file: Any, found: set[str], wanted: Mapping[str, Tensor]) -> str | None:
    """What the header says of the first tensor that is missing, surplus, or of another type or shape."""
    for name in [*wanted, *sorted(found - set(wanted))]:
        if name not in found:
            return f"{name} is missing"
        if name not in wanted:
            return f"it has no {sanitize(name)}"
        entry = file.get_slice(name)
        type_found, type_wanted = entry.get_dtype(), _TYPES.get(wanted[name].dtype)
        if type_found != type_wanted:
            return f"{name} is of type {type_found}, not {type_wanted}"
        shape_found, shape_wanted = tuple(entry.get_shape()), tuple(wanted[name].shape)
        if shape_found != shape_wanted:
            return f"{name} is {sanitize(str(shape_found))}, not {shape_wanted}"
    return None
