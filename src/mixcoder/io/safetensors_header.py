"""The header of a safetensors file whose tensors are written one after the other.

    [ header ][ tensor ][ tensor ] …

A header of a fixed size can be written last, when the shapes of all tensors are known.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import NamedTuple

_BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_WORD = 8


class Entry(NamedTuple):
    """A tensor of the file: the format's name of its type ("F32", …), and its shape."""

    dtype: str
    shape: tuple[int, ...]


def safetensors_header(
    tensors: Mapping[str, Entry], metadata: Mapping[str, str], size: int | None = None
) -> bytes:
    """Returns the header of a file that holds `tensors` in this order, without gaps: `size` bytes, or enough.

    Raises:
        ValueError: the header does not fit into `size` bytes.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    begin = 0
    for name, entry in tensors.items():
        end = begin + _BYTES[entry.dtype] * math.prod(entry.shape)
        header[name] = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(header).encode()
    length = (size or 8 + len(text) + -len(text) % _WORD) - 8  # after the length of the rest
    if len(text) > length:
        raise ValueError(f"a header of {len(text):,} bytes does not fit into {length:,}")
    return length.to_bytes(8, "little") + text.ljust(length)
