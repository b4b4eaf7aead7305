"""Reads IDX, the file format of MNIST: a magic number, the sizes, then the bytes, often gzipped."""

from __future__ import annotations

import math
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mixcoder.errors import DataError

_UNSIGNED_BYTES = 0x08
_LARGEST_GZIP_HEADER = 1 << 16


def read_idx(path: Path, shape: tuple[int, ...]) -> Tensor:
    """Returns the uint8 numbers of an IDX file, which must have just this shape.

    Args:
        path: the file; one that ends in .gz is unpacked on the way, never further than `shape` needs.
        shape: the sizes that the file must state.

    Returns:
        A uint8 tensor of `shape`.

    Raises:
        DataError: the file is missing, truncated, too long, damaged or of another shape.
    """
    most = _bytes_of(shape) + 1
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size  # Python takes memory for all that is asked for
            content = file.read(min(_most_packed(most) if path.suffix == ".gz" else most, size))
    except OSError as error:
        raise DataError(_unreadable(str(path), error)) from error
    return parse_idx(content, shape, str(path))


def parse_idx(content: bytes, shape: tuple[int, ...], name: str) -> Tensor:
    """Returns the uint8 numbers of an IDX file's content, which must have just this shape.

    Args:
        content: of the file.
        shape: the sizes that the file must state.
        name: of the file, for messages; that of a gzipped one ends in .gz.

    Raises:
        DataError: as `read_idx`.
    """
    wanted = _bytes_of(shape)
    header_size = wanted - math.prod(shape)
    try:
        content = _unpacked(content, wanted + 1) if name.endswith(".gz") else content
    except (EOFError, zlib.error) as error:
        raise DataError(_unreadable(name, error)) from error

    header = struct.pack(f">HBB{len(shape)}I", 0, _UNSIGNED_BYTES, len(shape), *shape)
    if content[:4] != header[:4]:
        raise DataError(f"{name}: is not an IDX file of {len(shape)}-dimensional unsigned bytes")
    if content[:header_size] != header:
        count = (len(content[:header_size]) - 4) // 4
        found = struct.unpack(f">{count}I", content[4 : 4 + 4 * count])
        raise DataError(f"{name}: holds an array of {_sizes(found)}, expected {_sizes(shape)}")
    if len(content) < wanted:
        missing = wanted - len(content)
        raise DataError(
            f"{name}: is truncated, it ends {missing:,} bytes early; delete it and fetch it again"
        )
    if len(content) > wanted:
        raise DataError(f"{name}: is longer than the {wanted:,} bytes that it states")
    numbers = np.frombuffer(content, dtype=np.uint8, offset=header_size).copy()
    return torch.from_numpy(numbers).view(shape)


def _unreadable(name: str, error: Exception) -> str:
    return f"{name}: cannot be read, it may be truncated ({error}); delete it and fetch it again"


def _bytes_of(shape: tuple[int, ...]) -> int:
    """Returns how many bytes a file has that holds an array of this shape."""
    return 4 + 4 * len(shape) + math.prod(shape)


def _most_packed(most: int) -> int:
    """Returns how many bytes so many can take when they are packed: deflate adds less than that."""
    return most + most // 256 + _LARGEST_GZIP_HEADER


def _unpacked(packed: bytes, most: int) -> bytes:
    """Returns the first bytes, at most `most`, that are packed in the content of a file in .gz.

    A packed file is one gzip member, perhaps padded. Python's gzip would go through the members of a file,
    and through the letters of a name, one by one, however many there are.
    """
    unpacker = zlib.decompressobj(zlib.MAX_WBITS + 16)
    content = unpacker.decompress(packed[: _most_packed(most)], most)
    if not unpacker.eof and len(content) < most:
        raise EOFError("it ends before its end marker")
    if unpacker.unused_data.strip(b"\0"):
        raise EOFError("it goes on after its end marker")
    return content


def _sizes(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "no size"
