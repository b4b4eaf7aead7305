"""Safetensors files, written whole or not at all; those read may be a stranger's.

    path ─▶ a plain file? ─▶ a header of bounded length ─▶ the names, shapes and types expected? ─▶ tensors

Memory for tensors is allocated only once the header holds what is expected.
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
    """Writes tensors to a file that replaces `path`; those on the CPU are not copied.

    The same tensors and metadata give the same bytes, unlike with safetensors' own writer, which does not
    order metadata.

    Raises:
        WriteError: the file could not be written, or not for certain; or the format lacks a tensor's type.
    """
    # The widest elements first, so that all lie on multiples of their size.
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    for name, tensor in ordered:
        if tensor.dtype not in _TYPES:
            raise WriteError(f"cannot write {path}: {name} is of type {tensor.dtype}")
    entries = {name: Entry(_TYPES[tensor.dtype], tuple(tensor.shape)) for name, tensor in ordered}
    header = safetensors_header(entries, dict(sorted(metadata.items())))
    write_atomically(path, header, *(_bytes_of(tensor) for _, tensor in ordered))


def read_metadata(path: Path, problem: str) -> dict[str, str]:
    """Returns the metadata of a file.

    Args:
        path: the file.
        problem: the message for a file that cannot be read, such as "is not a checkpoint".

    Raises:
        RunDirectoryError: the file is missing, not plain, or damaged.
    """
    with _open(path, problem) as file:
        return file.metadata() or {}


def read_tensors(
    path: Path, expected: Mapping[str, Tensor], problem: str, optional: Set[str] = frozenset()
) -> dict[str, Tensor]:
    """Returns the tensors of a file, on the CPU, whose names, shapes and types must be those expected.

    Args:
        path: the file.
        expected: tensors of the same names, shapes and types; their elements do not matter.
        problem: the message for a file that holds others, such as "is not a checkpoint".
        optional: names that the file may lack, or hold although they are not expected.

    Raises:
        RunDirectoryError: the file is missing, not plain, damaged, or holds other tensors; names the first.
    """
    with _open(path, problem) as file:
        passed_over = set(optional) - (set(file.keys()) & set(expected))
        wanted = {name: tensor for name, tensor in expected.items() if name not in passed_over}
        difference = _first_difference(file, set(file.keys()) - passed_over, wanted)
        if difference:
            raise RunDirectoryError(f"{path}: {problem} ({difference})")
        return {name: file.get_tensor(name) for name in wanted}


def _bytes_of(tensor: Tensor) -> memoryview:
    """Returns the bytes of the elements, in their order."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)  # (elements,)
    return flat.view(torch.uint8).numpy().data


@contextmanager
def _open(path: Path, problem: str) -> Iterator[Any]:
    """Context that opens a safetensors file, after a look at the length of its header."""
    try:
        check_plain_file(path)
        with path.open("rb") as file:
            header_bytes = int.from_bytes(file.read(8), "little")
        if header_bytes > LARGEST_BYTES:
            raise RunDirectoryError(f"{path}: {problem} (it states a header of {header_bytes:,} bytes)")
        with safe_open(path, framework="pt") as opened:
            yield opened
    except OSError as error:
        raise RunDirectoryError(f"{path}: {system_reason(error)}") from error
    except (SafetensorError, MemoryError) as error:
        raise RunDirectoryError(f"{path}: {problem} ({sanitize(first_line(error), 200)})") from error


def _first_difference(file: Any, found: set[str], wanted: Mapping[str, Tensor]) -> str | None:
    """Returns how the first tensor differs that is missing, surplus, of another type or shape; or None."""
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
