"""Levels of codes as bits without gaps.

    levels (N, numbers), `bits` bits each ─▶ rows (N, bytes) uint8

A code takes numbers x bits / 8 bytes, rounded up to whole ones: each begins at a byte. The highest bit of a
level comes first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Levels = NDArray[np.int32]
Rows = NDArray[np.uint8]


def bytes_of_code(numbers: int, bits: int) -> int:
    """Returns how many bytes a code takes."""
    return -(-numbers * bits // 8)


def pack_levels(levels: Levels, bits: int) -> Rows:
    """Returns levels (N, numbers) from 0 to 2^bits - 1 as rows (N, bytes)."""
    places = np.arange(bits - 1, -1, -1)
    separate = (levels[:, :, None] >> places & 1).astype(np.uint8)  # (N, numbers, bits)
    return np.packbits(separate.reshape(len(levels), -1), axis=1)


def unpack_levels(rows: Rows, numbers: int, bits: int) -> Levels:
    """Returns the levels (N, numbers) of rows (N, bytes)."""
    separate = np.unpackbits(rows, axis=1, count=numbers * bits).reshape(len(rows), numbers, bits)
    weights = (1 << np.arange(bits - 1, -1, -1)).astype(np.int32)
    levels: Levels = separate.astype(np.int32) @ weights
    return levels
