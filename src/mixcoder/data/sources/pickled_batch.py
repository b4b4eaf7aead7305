"""The numbers of a pickled batch of CIFAR, without unpickling: nothing in the file is run.

pickle ─ pickletools.genops ─▶ instructions, of which only constants are looked at
a long string ─▶ pixels
whole numbers behind the key of the labels ─▶ labels
"""

from __future__ import annotations

import pickletools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from mixcoder.errors import DataError

_LONGEST_KEY = 20


def read_batch(
    content: bytes, labels_key: str, pixels: int, name: str
) -> tuple[npt.NDArray[np.uint8], list[int]]:
    """Returns the pixels (N * pixels,) and the labels (N,) of a batch.

    Args:
        content: of the file.
        labels_key: under which the batch keeps its labels.
        pixels: numbers of an image.
        name: of the file, for messages.

    Raises:
        DataError: it is no such batch.
    """
    found, labels, key = b"", [], ""
    try:
        for constant in _constants(content):
            if isinstance(constant, int):
                if key == labels_key:
                    labels.append(constant)
            elif len(constant) <= _LONGEST_KEY:
                key = constant.decode("latin-1")
            elif len(constant) > len(found):
                found = constant
    except (ValueError, IndexError, EOFError, AttributeError) as error:
        raise DataError(f"{name}: is not a pickled batch, or is damaged; fetch it again") from error
    if not labels or len(found) != pixels * len(labels):
        sizes = f"{len(found):,} bytes of pixels and {len(labels):,} labels"
        raise DataError(f"{name}: holds {sizes}, which do not go together; fetch it again")
    return np.frombuffer(found, dtype=np.uint8).copy(), labels


def _constants(content: bytes) -> Iterator[int | bytes]:
    """Yields the whole numbers and the strings of a pickle, in their order."""
    for operation, argument, _ in pickletools.genops(content):
        value: Any = argument
        if operation.name.startswith(("BININT", "INT", "LONG")) and isinstance(value, int):
            yield value
        elif isinstance(value, str) and "STRING" in operation.name:
            yield value.encode("latin-1")
        elif isinstance(value, str) and "UNICODE" in operation.name:
            yield value.encode()
        elif isinstance(value, bytes | bytearray):
            yield bytes(value)
