"""Images of every kind come out upright, opaque, of 8 bits and the wanted size; what cannot is refused."""

from __future__ import annotations

import struct
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from mixcoder.pixels.codec import MAX_PIXELS, Fit, ImageError, Pixels, decode_bytes, decode_file
from mixcoder.pixels.pixel_budget import PixelBudget
from tests.conftest import slow
from tests.data.pictures import encoded, noise, pixels_of, smooth
from tests.pace import at_most

AS_IT_IS = Fit(channels=3, longest_edge=None, shortest_edge=1)
GREY = Fit(channels=1, longest_edge=None, shortest_edge=1)
LOSSLESS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "WEBP": {"lossless": True},
    "TIFF": {"compression": "tiff_lzw"},
    "BMP": {},
}
FINE: dict[str, Any] = {"quality": 95, "subsampling": 0}
TURN = Image.Transpose
STORED_AS = {
    1: None,
    2: TURN.FLIP_LEFT_RIGHT,
    3: TURN.ROTATE_180,
    4: TURN.FLIP_TOP_BOTTOM,
    5: TURN.TRANSPOSE,
    6: TURN.ROTATE_90,
    7: TURN.TRANSVERSE,
    8: TURN.ROTATE_270,
}
"""How the pixels of an upright image are stored under each EXIF orientation."""
ORIENTATION = 0x112


def decoded(image: Image.Image, form: str = "PNG", fit: Fit = AS_IT_IS, **options: Any) -> Pixels:
    return decode_bytes(encoded(image, form, **options), fit)


def assert_close(one: Pixels, other: Pixels, most: int) -> None:
    assert one.shape == other.shape
    assert np.abs(one.astype(int) - other.astype(int)).max() <= most


@pytest.mark.parametrize("form", LOSSLESS)
def test_lossless_formats(form: str, tmp_path: Path) -> None:
    image = noise(7, 5)
    (tmp_path / "name says nothing.jpg").write_bytes(encoded(image, form, **LOSSLESS[form]))
    pixels = decode_file(tmp_path / "name says nothing.jpg", AS_IT_IS)
    assert (pixels.dtype.name, pixels.shape) == ("uint8", (3, 5, 7))
    assert pixels.flags.c_contiguous
    assert np.array_equal(pixels, pixels_of(image))
    assert np.array_equal(decoded(image, form, GREY, **LOSSLESS[form]), pixels_of(image.convert("L")))


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
def test_lossy_formats(form: str) -> None:
    image = smooth(240, 160)
    assert_close(decoded(image, form, quality=95), pixels_of(image), 16)


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", STORED_AS)
def test_every_orientation_comes_out_upright(form: str, orientation: int) -> None:
    image = noise(9, 6)
    turn = STORED_AS[orientation]
    stored = image if turn is None else image.transpose(turn)
    assert stored.size == ((9, 6) if orientation <= 4 else (6, 9))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    assert np.array_equal(decoded(stored, form, **LOSSLESS[form], exif=exif), pixels_of(image))


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_photo_on_its_side_has_the_size_of_the_upright_one(orientation: int) -> None:
    turn = STORED_AS[orientation]
    image = smooth(957, 2284)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    fit = Fit(3, 160, 96)
    pixels = decoded(image if turn is None else image.transpose(turn), "JPEG", fit, **FINE, exif=exif)
    width, height = fit.size(957, 2284)
    assert pixels.shape == (3, height, width)
    assert_close(pixels, pixels_of(image.resize((width, height), Image.Resampling.LANCZOS)), 16)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("exif", [b"Exif\0\0 nonsense", b"Exif\0\0II*\0\xff\xff\xff\xff"])
def test_damaged_exif_does_no_harm(exif: bytes) -> None:
    image = smooth(20, 30)
    assert np.array_equal(decoded(image, "JPEG", exif=exif), decoded(image, "JPEG"))


@pytest.mark.parametrize("channels", [1, 3])
def test_transparency_lies_on_white(channels: int) -> None:
    fit = Fit(channels, None, 1)
    values = np.array([[[10, 200], [10, 0], [100, 51]]], dtype=np.uint8)  # (1, 3, 2) grey and alpha
    grey, alpha = values[..., 0].astype(float), values[..., 1] / 255
    wanted = (grey * alpha + 255 * (1 - alpha)).round().astype(np.uint8)  # (1, 3)
    two = Image.fromarray(values, "LA")
    for image in (two, two.convert("RGBA")):
        for form in ("PNG", "WEBP", "TIFF"):
            pixels = decoded(
                image, form, fit, **LOSSLESS[form], **({"exact": True} if form == "WEBP" else {})
            )
            assert_close(pixels, np.broadcast_to(wanted, (channels, 1, 3)), 1)


def test_a_transparent_palette_entry_lies_on_white() -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([0, 0, 0, 10, 20, 30, 200, 0, 0])
    image.putdata([0, 1, 2])
    opaque = np.array([[[0, 10, 200]], [[0, 20, 0]], [[0, 30, 0]]])  # (3, 1, 3)
    through = opaque.copy()
    through[:, 0, 1] = 255
    for form in ("PNG", "GIF"):
        assert np.array_equal(decoded(image, form), opaque)
        assert np.array_equal(decoded(image, form, transparency=1), through)
    half = decoded(image, "PNG", transparency=bytes([255, 128, 255]))
    assert_close(half[:, 0, 1], np.array([132, 137, 142], dtype=np.uint8), 1)


def test_a_transparent_grey_lies_on_white() -> None:
    image = Image.fromarray(np.array([[7, 9, 11]], dtype=np.uint8))
    assert decoded(image, "PNG", GREY, transparency=9).tolist() == [[[7, 255, 11]]]


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_of_grey_become_eight(form: str) -> None:
    values = np.array([[0, 257, 32_768, 65_535], [128, 129, 65_406, 65_407]], dtype=np.uint16)
    image = Image.fromarray(values)
    assert image.mode == "I;16"
    assert decoded(image, form, GREY).tolist() == [[[0, 1, 128, 255], [0, 1, 254, 255]]]
    assert decoded(image, form).tolist() == [[[0, 1, 128, 255], [0, 1, 254, 255]]] * 3


def test_palette_bits_and_cmyk() -> None:
    image = smooth(24, 16)
    palette = image.quantize(16)
    bits = image.convert("1")
    for form in ("PNG", "GIF", "BMP", "TIFF"):
        assert np.array_equal(decoded(palette, form), pixels_of(palette.convert("RGB")))
        assert np.array_equal(decoded(bits, form, GREY), pixels_of(bits.convert("L")))
    cmyk = image.convert("CMYK")
    for form, most in (("JPEG", 16), ("TIFF", 0)):
        options = FINE if form == "JPEG" else {}
        assert_close(decoded(cmyk, form, **options), pixels_of(cmyk.convert("RGB")), most)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "BMP", "GIF"])
def test_grey_as_rgb(form: str) -> None:
    image = smooth(20, 12, mode="L")
    grey, rgb = decoded(image, form, GREY), decoded(image, form)
    assert grey.shape == (1, 12, 20)
    assert np.array_equal(rgb, np.repeat(grey, 3, axis=0))


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_of_several_frames_counts(form: str) -> None:
    frames = [Image.new("RGB", (8, 6), colour) for colour in ("red", "green", "blue")]
    pixels = decoded(frames[0], form, save_all=True, append_images=frames[1:], **LOSSLESS.get(form, {}))
    assert np.array_equal(pixels, pixels_of(frames[0]))


edges = st.integers(1, 20_000)


@given(edges, edges, st.none() | st.integers(1, 4096), st.integers(1, 4096))
@example(2258, 880, 160, 96)
@example(1, 40, 1, 1)
def test_size(width: int, height: int, longest_edge: int | None, shortest_edge: int) -> None:
    fit = Fit(3, longest_edge, shortest_edge)
    new = fit.size(width, height)
    assert fit.size(height, width) == new[::-1]
    assert min(new) >= shortest_edge
    if min(new) > shortest_edge:
        assert max(new) <= (longest_edge or max(width, height))
    if longest_edge is None and min(width, height) >= shortest_edge:
        assert new == (width, height)
    scale = max(new) / max(width, height)
    assert abs(min(new) - min(width, height) * scale) <= 1
    assert fit.size(*new) == new or min(new) == shortest_edge


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("size", [(2258, 880), (1200, 900), (957, 1284), (2200, 481), (97, 300), (90, 70)])
def test_scaled_to_the_wanted_size(form: str, size: tuple[int, int]) -> None:
    image, fit = smooth(*size), Fit(3, 160, 96)
    options = FINE if form == "JPEG" else {"compress_level": 1}
    wanted = image.resize(fit.size(*size), Image.Resampling.LANCZOS)
    assert_close(decoded(image, form, fit, **options), pixels_of(wanted), 16 if form == "JPEG" else 0)


def test_detail_is_averaged_not_skipped() -> None:
    stripes = np.zeros((800, 1200), dtype=np.uint8)
    stripes[:, ::2] = 255
    pixels = decoded(Image.fromarray(stripes), "PNG", Fit(1, 120, 16))
    assert pixels.shape == (1, 80, 120)
    assert_close(pixels[:, :, 4:-4], np.full((1, 80, 112), 127, dtype=np.uint8), 3)


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG file with a header and nearly nothing behind it."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(99)))
        + chunk(b"IEND", b"")
    )


def refusal(content: bytes, fit: Fit = AS_IT_IS) -> str:
    with pytest.raises(ImageError) as refused:
        decode_bytes(content, fit)
    reason = str(refused.value)
    assert 5 < len(reason) < 150
    assert reason.isprintable()
    return reason


@pytest.mark.parametrize("edge", [20_000, 60_000, 2**31 - 1])
def test_a_decompression_bomb_is_refused_at_once(edge: int) -> None:
    with at_most(yardsticks=1):
        assert refusal(png_that_claims(edge, edge)) == f"claims more than {MAX_PIXELS:,} pixels"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_small_bomb_is_refused_too() -> None:
    assert refusal(png_that_claims(12_000, 12_000)) == "claims 12,000 x 12,000 pixels"


JPEG = encoded(smooth(64, 48), "JPEG")
PNG = encoded(noise(64, 48), "PNG")
REFUSED = {
    "text": (b"this is no image at all\n" * 9, "is not an image of a known format"),
    "nothing": (b"", "is not an image of a known format"),
    "another format": (encoded(noise(8, 8), "TGA"), "is not an image of a known format"),
    "half a JPEG": (JPEG[: len(JPEG) // 2], "truncated"),
    "half a PNG": (PNG[: len(PNG) // 2], "truncated|broken|damaged"),
    "half a WebP": (encoded(noise(64, 48), "WEBP")[:900], "known format|damaged|failed|decode"),
    "half a GIF": (encoded(noise(64, 48), "GIF")[:900], "truncated"),
    "a PNG without pixels": (png_that_claims(90, 90), "truncated|broken|damaged"),
    "floating point": (encoded(Image.new("F", (9, 9), 0.5), "TIFF"), "has floating-point pixels"),
    "32 bits": (encoded(Image.new("I", (9, 9), 70_000), "TIFF"), "has 32-bit or signed pixels"),
    "signs": (encoded(Image.new("I", (9, 9), -1), "TIFF"), "has 32-bit or signed pixels"),
    "too narrow": (encoded(noise(2, 81), "PNG"), "is 2 x 81 pixels, too narrow"),
    "too low": (encoded(noise(4_001, 100), "BMP"), "is 4,001 x 100 pixels, too narrow"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_with_a_reason(kind: str, tmp_path: Path) -> None:
    content, reason = REFUSED[kind]
    with pytest.raises(ImageError, match=reason):
        decode_bytes(content, AS_IT_IS)
    (tmp_path / "it.jpg").write_bytes(content)
    with pytest.raises(ImageError, match=reason):
        decode_file(tmp_path / "it.jpg", AS_IT_IS)
    refusal(content, GREY)


def test_not_a_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "gone.jpg"):
        with pytest.raises(ImageError, match="^(Is a directory|No such file or directory)$"):
            decode_file(path, AS_IT_IS)


def test_as_narrow_as_may_be() -> None:
    assert decoded(noise(2, 80), fit=Fit(3, 160, 10)).shape == (3, 400, 10)


THREADS = """
import resource, sys, threading
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from PIL import Image
from mixcoder.pixels import codec
from mixcoder.pixels.pixel_budget import PixelBudget

edge, most, mode, form, fitted = int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:6]
file = BytesIO()
options = {"compress_level": 1} if form == "PNG" else {"compression": "tiff_lzw"} if form == "TIFF" else {}
Image.new(mode, (edge, edge)).save(file, form, **options)
fit = codec.Fit(3, 160, 96) if fitted == "fitted" else codec.Fit(3, None, 1)
codec._budget = PixelBudget(most)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with ThreadPoolExecutor(4) as pool:
    for pixels in pool.map(lambda content: codec.decode_bytes(content, fit).mean(), [file.getvalue()] * 4):
        pass
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / edge**2)
"""


def bytes_for_each_pixel(*arguments: object) -> float:
    """How much memory four threads took that decode a large picture each, by the pixels of one."""
    command = [sys.executable, "-c", THREADS, *map(str, arguments)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize(
    ("mode", "form"),
    [
        ("RGBA", "PNG"),
        pytest.param("I;16", "PNG", marks=slow),
        pytest.param("CMYK", "TIFF", marks=slow),
    ],
)
def test_threads_share_a_budget_of_pixels(mode: str, form: str) -> None:
    """One picture after the other, and each band by band, whatever the mode."""
    edge = 4_100
    assert bytes_for_each_pixel(edge, edge**2, mode, form, "fitted") < 10


@slow
def test_a_picture_that_stays_as_large_takes_little_more_than_its_pixels() -> None:
    edge = 4_100
    assert bytes_for_each_pixel(edge, edge**2, "RGBA", "PNG", "as it is") < 16


def test_a_budget_is_never_exceeded_and_never_left_taken() -> None:
    budget, lock = PixelBudget(10), threading.Lock()
    now, most = 0, 0

    def take(pixels: int) -> None:
        nonlocal now, most
        with budget.taken(pixels):
            with lock:
                now += min(pixels, 10)
                most = max(most, now)
            time.sleep(0.001)
            with lock:
                now -= min(pixels, 10)
            if pixels == 7:
                raise ImageError("is a 7")

    with ThreadPoolExecutor(8) as pool:
        errors = [pool.submit(take, pixels).exception() for pixels in (3, 7, 99, 1, 5, 7, 2) * 9]
    assert sum(isinstance(error, ImageError) for error in errors) == 18
    assert most <= 10
    with budget.taken(10):
        assert now == 0


@pytest.mark.parametrize("orientation", STORED_AS)
@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_a_huge_picture_is_averaged_and_still_right(
    form: str, orientation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mixcoder.pixels.codec._LARGE", 100_000)
    monkeypatch.setattr("mixcoder.pixels.codec._BAND_PIXELS", 30_000)
    image, fit = smooth(1_003, 611, mode="RGBA"), Fit(3, 90, 40)
    turn = STORED_AS[orientation]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {**LOSSLESS[form], "exif": exif}
    pixels = decoded(image if turn is None else image.transpose(turn), form, fit, **options)
    white = Image.new("RGBA", image.size, "white")
    wanted = (
        Image.alpha_composite(white, image)
        .convert("RGB")
        .resize(fit.size(*image.size), Image.Resampling.LANCZOS)
    )
    assert_close(pixels, pixels_of(wanted), 3)


def test_bands_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [smooth(301, 203, mode="RGBA"), smooth(301, 203).quantize(50), smooth(301, 203).convert("1")]
    whole = [decoded(image, "PNG", Fit(3, 90, 40)) for image in images]
    monkeypatch.setattr("mixcoder.pixels.codec._BAND_PIXELS", 1_000)
    for image, pixels in zip(images, whole, strict=True):
        assert np.array_equal(decoded(image, "PNG", Fit(3, 90, 40)), pixels)


def test_what_would_be_scaled_up_to_gigabytes_is_refused() -> None:
    assert refusal(encoded(noise(3_900, 100), "PNG"), Fit(3, None, 4_096)) == (
        "would have to be scaled up to 159,744 x 4,096 pixels"
    )
