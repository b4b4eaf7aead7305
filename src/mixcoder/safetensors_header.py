"""The header of a safetensors file whose tensors are written one after the other, as they come.

[ header of a size known beforehand ][ tensor ][ tensor ] …
└─ written last, when all shapes are known
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import NamedTuple

_BYTES = {"U8": 1, "F32": 4, "I64": 8}


class Entry(NamedTuple):
    """A tensor of the file: the format's name of its numbers ("F32", …), and its shape."""

    dtype: str
    shape: tuple[int, ...]


def safetensors_header(tensors: Mapping[str, Entry], metadata: Mapping[str, str], size: int) -> bytes:
    """The first `size` bytes of a file that holds `tensors` in this order, without gaps.

    Raises:
        ValueError: the header does not fit into `size` bytes.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    begin = 0
    for name, entry in tensors.items():
        end = begin + _BYTES[entry.dtype] * math.prod(entry.shape)
        header[name] = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": [begin, end]}
        begin = end
    room = size - 8  # after the length of the rest
    text = json.dumps(header).encode()
    if len(text) > room:
        raise ValueError(f"a header of {len(text):,} bytes does not fit into {room:,}")
    return room.to_bytes(8, "little") + text.ljust(room)
