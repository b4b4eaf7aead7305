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
    header_size = 4 + 4 * len(shape)
    wanted = header_size + math.prod(shape)
    try:
        content = _read(path, wanted + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path}: cannot be read, it may be truncated ({error}); delete it and fetch it again"
        ) from error

    header = struct.pack(f">HBB{len(shape)}I", 0, _UNSIGNED_BYTES, len(shape), *shape)
    if content[:4] != header[:4]:
        raise DataError(f"{path}: is not an IDX file of {len(shape)}-dimensional unsigned bytes")
    if content[:header_size] != header:
        count = (len(content[:header_size]) - 4) // 4
        found = struct.unpack(f">{count}I", content[4 : 4 + 4 * count])
        raise DataError(f"{path}: holds an array of {_sizes(found)}, expected {_sizes(shape)}")
    if len(content) < wanted:
        missing = wanted - len(content)
        raise DataError(
            f"{path}: is truncated, it ends {missing:,} bytes early; delete it and fetch it again"
        )
    if len(content) > wanted:
        raise DataError(f"{path}: is longer than the {wanted:,} bytes that it states")
    numbers = np.frombuffer(content, dtype=np.uint8, offset=header_size).copy()
    return torch.from_numpy(numbers).view(shape)


def _read(path: Path, most: int) -> bytes:
    """Returns the first bytes of a file, at most `most`; of a file in .gz, those packed in it.

    A packed file is one gzip member, perhaps padded. Python's gzip would go through the members of a file,
    and through the letters of a name, one by one, however many there are.
    """
    with path.open("rb") as file:
        size = os.fstat(
            file.fileno()
        ).st_size  # Python takes memory for all that is asked for, be it there or not
        if path.suffix != ".gz":
            return file.read(min(most, size))
        packed = file.read(
            min(most + most // 256 + _LARGEST_GZIP_HEADER, size)
        )  # deflate adds less than that
    unpacker = zlib.decompressobj(zlib.MAX_WBITS + 16)
    content = unpacker.decompress(packed, most)
    if not unpacker.eof and len(content) < most:
        raise EOFError("it ends before its end marker")
    if unpacker.unused_data.strip(b"\0"):
        raise EOFError("it goes on after its end marker")
    return content


def _sizes(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "no size"
