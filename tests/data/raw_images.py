"""PNG and TIFF files written byte by byte, for pixels that no writer of ours would give them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

Chunk = tuple[bytes, bytes]
"""The kind of a PNG chunk, and its content."""


def png(size: tuple[int, int], bits: int, colour: int, rows: Sequence[bytes], *chunks: Chunk) -> bytes:
    """A PNG file of a colour type (0 grey, 2 RGB, 3 palette, 4 grey with alpha, 6 RGBA)."""
    header = struct.pack(">IIBBBBB", *size, bits, colour, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    every = [(b"IHDR", header), *chunks, (b"IDAT", body), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in every
    )


def tiff(
    size: tuple[int, int],
    bits: Sequence[int],
    photometric: int,
    content: Sequence[bytes],
    order: str = "<",
    sample_format: int = 1,
    extra: int | None = None,
) -> bytes:
    """A TIFF file without compression.

    Args:
        size: width and height.
        bits: of each sample of a pixel.
        photometric: 0 white is zero, 1 black is zero, 2 RGB, 8 Lab.
        content: one strip, or one for each plane.
        order: "<" or ">" for the order of bytes.
        sample_format: 1 unsigned, 2 signed, 3 floating point.
        extra: 1 for alpha that the colours are multiplied with, 2 for alpha of its own.
    """
    planes = len(content)
    tags = {
        256: [size[0]],
        257: [size[1]],
        258: list(bits),
        259: [1],
        262: [photometric],
        273: [0] * planes,
        277: [len(bits)],
        278: [size[1]],
        279: [len(strip) for strip in content],
        284: [2 if planes > 1 else 1],
        338: [] if extra is None else [extra],
        339: [sample_format] * len(bits),
    }
    tags = {tag: values for tag, values in tags.items() if values}
    end = 8 + 2 + 12 * len(tags) + 4
    room = sum(4 * len(values) for values in tags.values())
    starts = [end + room + sum(map(len, content[:number])) for number in range(planes)]
    entries, outside = b"", b""
    for tag, values in {**tags, 273: starts}.items():
        packed = struct.pack(f"{order}{len(values)}I", *values)
        place = packed if len(values) == 1 else struct.pack(f"{order}I", end + len(outside))
        outside += b"" if len(values) == 1 else packed
        entries += struct.pack(f"{order}HHI", tag, 4, len(values)) + place
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    directory = struct.pack(f"{order}H", len(tags)) + entries + bytes(4)
    return head + directory + outside.ljust(room, b"\0") + b"".join(content)
