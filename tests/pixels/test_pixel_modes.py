"""Pixels of every mode that a file can have come out right, or the image is refused with the reason."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from mixcoder.pixels.codec import Fit, ImageError, Pixels, decode_bytes
from tests.data.pictures import encoded, pixels_of
from tests.data.raw_images import Chunk, png, tiff

AS_IT_IS = Fit(channels=3, longest_edge=None, shortest_edge=1)
GREY = Fit(channels=1, longest_edge=None, shortest_edge=1)
PALETTE: Chunk = (b"PLTE", bytes([0, 0, 0, 10, 20, 30, 200, 0, 0]))


def transparent(*values: int) -> Chunk:
    return b"tRNS", struct.pack(f">{len(values)}H", *values)


def words(order: str, *values: int) -> bytes:
    return struct.pack(f"{order}{len(values)}H", *values)


RIGHT: dict[str, tuple[bytes, list[list[int]]]] = {
    "PNG, 1 bit, black transparent": (png((2, 1), 1, 0, [b"\x40"], transparent(0)), [[255, 255]]),
    "PNG, 1 bit, white transparent": (png((2, 1), 1, 0, [b"\x40"], transparent(1)), [[0, 255]]),
    "PNG, 2 bits, one grey transparent": (
        png((4, 1), 2, 0, [b"\x1b"], transparent(1)),
        [[0, 255, 170, 255]],
    ),
    "PNG, 4 bits, one grey transparent": (png((2, 1), 4, 0, [b"\x37"], transparent(7)), [[0x33, 255]]),
    "PNG, 8 bits, one grey transparent": (png((3, 1), 8, 0, [b"\7\t\v"], transparent(9)), [[7, 255, 11]]),
    "PNG, 16 bits": (png((2, 1), 16, 0, [words(">", 0x1234, 0xFFFF)]), [[18, 255]]),
    "PNG, 16 bits, one grey transparent": (
        png((2, 1), 16, 0, [words(">", 0x1234, 0x1235)], transparent(0x1234)),
        [[255, 18]],
    ),
    "PNG, 16 bits and alpha": (png((2, 1), 16, 4, [words(">", 0, 65_535, 0, 0x8000)]), [[0, 127]]),
    "PNG, RGB, one colour transparent": (
        png((2, 1), 8, 2, [bytes([1, 1, 1, 4, 4, 4])], transparent(1, 1, 1)),
        [[255, 4]],
    ),
    "PNG, RGBA of 16 bits": (
        png((2, 1), 16, 6, [words(">", 0, 0, 0, 65_535, 0, 0, 0, 0x8000)]),
        [[0, 127]],
    ),
    **{
        f"TIFF, white is zero, {bits} bits": (tiff((2, 1), [bits], 0, [content]), [[237, 0]])
        for bits, content in ((8, bytes([18, 255])), (16, words("<", 0x1234, 0xFFFF)))
    },
    **{
        f"TIFF, 16 bits, {order}": (tiff((2, 1), [16], 1, [words(order, 0x1234, 0xFFFF)], order), [[18, 255]])
        for order in "<>"
    },
    "TIFF, 12 bits": (tiff((2, 1), [12], 1, [bytes([0x12, 0x3F, 0xFF])]), [[18, 255]]),
    "TIFF, grey multiplied with alpha": (
        tiff((2, 1), [8, 8], 1, [bytes([100, 255, 0, 0])], extra=1),
        [[100, 255]],
    ),
    "TIFF, RGB multiplied with alpha": (
        tiff((2, 1), [8] * 4, 2, [bytes([9, 9, 9, 255, 0, 0, 0, 0])], extra=1),
        [[9, 255]],
    ),
    "TIFF, RGB of 8 bits in planes": (tiff((2, 1), [8] * 3, 2, [b"\1\2"] * 3), [[1, 2]]),
    **{
        f"TIFF, RGB of 16 bits, {order}": (
            tiff((1, 1), [16] * 3, 2, [words(order, 0x1234, 0x1234, 0x1234)], order),
            [[18]],
        )
        for order in "<>"
    },
    "PGM, 12 bits": (b"P5 2 1 4095\n" + words(">", 0x123, 0xFFF), [[18, 255]]),
    "PGM, 16 bits": (b"P5 2 1 65535\n" + words(">", 0x1234, 0xFFFF), [[18, 255]]),
    "PGM, white is 100": (b"P5 2 1 100\n" + bytes([50, 100]), [[128, 255]]),
    "PGM in digits": (b"P2 2 1 15\n7 15\n", [[119, 255]]),
    "PPM, 16 bits": (b"P6 1 1 65535\n" + words(">", 0x1234, 0x1234, 0x1234), [[18]]),
    "PBM": (b"P4 2 1\n\x40", [[255, 0]]),
    "PBM in digits": (b"P1 2 1\n0 1\n", [[255, 0]]),
}


@pytest.mark.parametrize("kind", RIGHT)
def test_greys(kind: str) -> None:
    content, greys = RIGHT[kind]
    assert decode_bytes(content, GREY).tolist() == [greys]
    assert decode_bytes(content, AS_IT_IS).tolist() == [greys] * 3


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_transparent_entries_of_a_palette(bits: int) -> None:
    row = bytes([0, 1]) if bits == 8 else bytes([1 << (8 - 2 * bits)])
    for alphas, wanted in (([255, 0], [255] * 3), ([255, 128], [132, 137, 142])):
        pixels = decode_bytes(png((2, 1), bits, 3, [row], PALETTE, (b"tRNS", bytes(alphas))), AS_IT_IS)
        assert pixels[:, 0, 0].tolist() == [0, 0, 0]
        assert np.abs(pixels[:, 0, 1] - np.array(wanted)).max() <= 1


NO_RANGE = "has 32-bit or signed pixels, whose range is not known"
FLOATS = "has floating-point pixels, whose range is not known"
UNREAD = "is a TIFF image of a kind that is not read, such as of floating-point colours"
REFUSED: dict[str, tuple[bytes, str]] = {
    "PNG, RGB of 16 bits, one colour transparent": (
        png((1, 1), 16, 2, [words(">", 1, 2, 3)], transparent(1, 2, 3)),
        "has 16-bit colours of which one is transparent, which are not read",
    ),
    "TIFF, 8 bits with a sign": (tiff((1, 1), [8], 1, [b"\x80"], sample_format=2), NO_RANGE),
    "TIFF, 16 bits with a sign": (tiff((1, 1), [16], 1, [b"\1\0"], sample_format=2), NO_RANGE),
    "TIFF, 32 bits, small values": (tiff((1, 1), [32], 1, [b"\1\0\0\0"]), NO_RANGE),
    "TIFF, floating point": (tiff((1, 1), [32], 1, [bytes(4)], sample_format=3), FLOATS),
    "TIFF, floating point of 64 bits": (tiff((1, 1), [64], 1, [bytes(8)], sample_format=3), UNREAD),
    "TIFF, RGB in floating point": (tiff((1, 1), [32] * 3, 2, [bytes(12)], sample_format=3), UNREAD),
    "TIFF, grey of 16 bits with alpha": (tiff((1, 1), [16, 16], 1, [bytes(4)], extra=2), UNREAD),
    "TIFF, white is zero, 16 bits, >": (tiff((1, 1), [16], 0, [bytes(2)], ">"), UNREAD),
    "PFM": (b"Pf 1 1 -1.0\n" + struct.pack("<f", 0.5), FLOATS),
    **{
        f"TIFF, RGB of 16 bits in planes, {order}": (
            tiff((1, 1), [16] * 3, 2, [words(order, 1)] * 3, order),
            "has 16-bit colours in planes that are not compressed, which are not read",
        )
        for order in "<>"
    },
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_with_the_reason(kind: str) -> None:
    content, reason = REFUSED[kind]
    with pytest.raises(ImageError) as refused:
        decode_bytes(content, AS_IT_IS)
    assert str(refused.value) == reason


COLOURS = Image.fromarray(np.arange(9 * 6 * 3, dtype=np.uint8).reshape(6, 9, 3))
TURN = Image.Transpose
STORED_AS: Sequence[Image.Transpose | None] = (
    None,
    TURN.FLIP_LEFT_RIGHT,
    TURN.ROTATE_180,
    TURN.FLIP_TOP_BOTTOM,
    TURN.TRANSPOSE,
    TURN.ROTATE_90,
    TURN.TRANSVERSE,
    TURN.ROTATE_270,
)
"""How the pixels of an upright image are stored under each EXIF orientation, from 1 on."""
EXACT: dict[str, dict[str, Any]] = {"PNG": {}, "TIFF": {}, "WEBP": {"lossless": True}}
LZW = {"compression": "tiff_lzw"}
MODES = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "TIFF": ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I;16B"),
    "WEBP": ("L", "LA", "RGB", "RGBA"),
}


def in_mode(mode: str) -> Image.Image:
    if mode.startswith("I;16"):
        levels = np.asarray(COLOURS.convert("L")).astype(np.uint16) * 257
        return Image.fromarray(levels.astype(">u2" if mode == "I;16B" else "<u2"))
    if mode == "PA":
        return Image.merge("PA", (COLOURS.quantize(9), COLOURS.convert("L")))
    if mode in ("LA", "RGBA"):
        image = COLOURS.convert(mode)
        image.putalpha(COLOURS.convert("L"))
        return image
    return COLOURS.convert(mode)


def on_white(image: Image.Image) -> Pixels:
    """What should be seen of an image, found in another way."""
    if image.mode.startswith("I;16"):
        image = COLOURS.convert("L")
    if image.mode not in ("LA", "PA", "RGBA"):
        return pixels_of(image.convert("RGB"))
    rgba = np.asarray(image.convert("RGBA")).astype(float)  # (H, W, 4)
    alpha = rgba[..., 3:] / 255
    mixed = rgba[..., :3] * alpha + 255 * (1 - alpha)
    return mixed.round().astype(np.uint8).transpose(2, 0, 1)  # (3, H, W)


@pytest.mark.parametrize(("form", "mode"), [(form, mode) for form in MODES for mode in MODES[form]])
def test_every_mode_in_every_orientation(form: str, mode: str) -> None:
    image = in_mode(mode)
    assert image.mode == mode
    for orientation, turn in enumerate(STORED_AS, start=1):
        stored = image if turn is None else image.transpose(turn)
        exif = Image.Exif()
        exif[0x112] = orientation
        for options in ({}, LZW) if form == "TIFF" else ({},):
            content = encoded(stored, form, **EXACT[form], **options, exif=exif)
            difference = decode_bytes(content, AS_IT_IS).astype(int) - on_white(image)
            assert np.abs(difference).max() <= 1


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no decoder for AVIF")
def test_avif_in_every_orientation() -> None:
    smooth = COLOURS.resize((36, 24), Image.Resampling.BICUBIC)
    for orientation, turn in enumerate(STORED_AS, start=1):
        stored = smooth if turn is None else smooth.transpose(turn)
        exif = Image.Exif()
        exif[0x112] = orientation
        content = encoded(stored, "AVIF", quality=100, subsampling="4:4:4", exif=exif)
        difference = decode_bytes(content, AS_IT_IS).astype(int) - pixels_of(smooth)
        assert np.abs(difference).max() <= 8
