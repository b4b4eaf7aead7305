"""IDX files broken at random: in their header, their numbers, their length, and as gzip packs them.

dice ─▶ draw ─▶ {content, name, shape} ─▶ read ─┬─▶ numbers ────▶ check_sound
                                                └─▶ a sentence ─▶ check_refusal
"""

from __future__ import annotations

import gzip
import struct
import zlib
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from torch import Tensor

from mixcoder.data import load_data
from mixcoder.data.sources.idx import read_idx

Case = dict[str, Any]
"""{content: a file, one character a byte; name: of the file; shape: what is asked of it}, as JSON has it."""

SIZES = [0, 1, 2, 3, 7, 8, 9, 20, 255, 256, 65_536, 2**31 - 1, 2**31, 2**32 - 1]
BOMB_BYTES = 8 << 20
_GZIP_HEADER = 10


@cache
def _sound() -> list[tuple[tuple[int, ...], bytes]]:
    """Twenty real digits and their labels, each with the shape that it states."""
    images = load_data("digits").validation.images[:20, 0]  # (20, 8, 8)
    labels = images.flatten(1).sum(1).byte()  # (20,)
    return [(tuple(it.shape), header(*it.shape) + it.numpy().tobytes()) for it in (images, labels)]


def header(*sizes: int) -> bytes:
    """What stands before unsigned bytes of these sizes."""
    return struct.pack(f">HBB{len(sizes)}I", 0, 8, len(sizes), *sizes)


def draw(dice: Random) -> Case:
    """A sound file with one to three things done to its bytes, and to those that gzip makes of them."""
    shape, content = dice.choice(_sound())
    for _ in range(dice.randint(0, 3)):
        content = _broken(content, dice)
    name = "x.idx"
    if dice.random() < 0.6:
        name, content = "x.idx.gz", _packed(content, dice)
        for _ in range(dice.choice([0, 0, 1, 2])):
            content = _broken_packing(content, dice)
    if dice.random() < 0.05:
        name = dice.choice(["x.idx", "x.idx.gz", "x.GZ", "x"])
    if dice.random() < 0.1:
        shape = tuple(dice.choices(SIZES[:9], k=dice.randint(0, 4)))
    return {"content": content.decode("latin-1"), "name": name, "shape": list(shape)}


def prepare() -> None:
    """Loads what is loaded once."""
    _sound()


def read(case: Case) -> Tensor:
    """The numbers of a case.

    Raises:
        MixcoderError: it is not sound; anything else is a mistake of ours.
    """
    path = Path(case["name"])
    path.write_bytes(case["content"].encode("latin-1"))
    return read_idx(path, tuple(case["shape"]))


def check_sound(case: Case, numbers: Tensor) -> None:
    """What is read is all that the file holds, by Python's own gzip."""
    content = case["content"].encode("latin-1")
    held = gzip.decompress(content) if case["name"].endswith(".gz") else content
    assert header(*case["shape"]) + numbers.numpy().tobytes() == held


def check_refusal(case: Case, message: str) -> None:
    """A sentence that names the file."""
    assert message.startswith(f"{case['name']}: ")
    assert message.isprintable()
    assert len(message) < 300


def _broken(content: bytes, dice: Random) -> bytes:
    """The file with one thing done to it."""
    at = dice.randrange(len(content) + 1)
    match dice.choice(["magic", "sizes", "size", "byte", "cut", "longer", "gone", "again", "other"]):
        case "magic":
            place = dice.randrange(4)
            return content[:place] + bytes([dice.choice([0, 1, 3, 8, 9, 13, 14, 255])]) + content[place + 1 :]
        case "sizes":
            sizes = dice.choices(SIZES, k=dice.choice([0, 1, 2, 3, 4, 255]))
            return header(*sizes) + content[16:]
        case "size":
            place = dice.choice([4, 8, 12])
            return content[:place] + struct.pack(">I", dice.choice(SIZES)) + content[place + 4 :]
        case "byte":
            return content[:at] + dice.randbytes(1) + content[at + 1 :]
        case "cut":
            return content[: dice.choice([at, dice.randrange(20)])]
        case "longer":
            return content + dice.choice([b"\0", b"\n", dice.randbytes(9), bytes(BOMB_BYTES), content])
        case "gone":
            return content[:at] + content[at + dice.randint(1, 16) :]
        case "again":
            return content[:at] + content[:at]
        case _:
            return dice.choice([b"", b"<html>", b"PK\x03\x04", b"\x1f\x8b", b"\x80\x04.", dice.randbytes(40)])


def _packed(content: bytes, dice: Random) -> bytes:
    """The file as gzip packs it: mostly in one member, with what its header may hold."""
    match dice.choice(["plain", "plain", "plain", "fields", "members", "empty members"]):
        case "fields":
            return _member(content, dice.choice([0, 0, 1, 30, 65_535]), dice.choice([0, 5, 100_000]), dice)
        case "members":
            at = dice.randrange(len(content) + 1)
            return gzip.compress(content[:at]) + gzip.compress(content[at:])
        case "empty members":
            return gzip.compress(b"") * dice.choice([1, 100, 5_000]) + gzip.compress(content)
    return gzip.compress(content, dice.choice([0, 1, 9]))


def _member(content: bytes, extra: int, name: int, dice: Random) -> bytes:
    """A gzip member with `extra` bytes of another's data, a name and a comment of `name` letters."""
    flags = dice.choice([0, 1, 4, 8, 16, 4 + 8 + 16, 255])
    fields = b""
    if flags & 4:
        fields += struct.pack("<H", extra) + bytes(extra)
    if flags & 8:
        fields += b"n" * name + b"\0"
    if flags & 16:
        fields += b"c" * name + b"\0"
    start = struct.pack("<HBBIBB", 0x8B1F, 8, flags, 0, 0, 255) + fields
    if flags & 2:
        start += struct.pack("<H", zlib.crc32(start) & 0xFFFF)
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return (
        start
        + packer.compress(content)
        + packer.flush()
        + struct.pack("<II", zlib.crc32(content), len(content))
    )


def _broken_packing(content: bytes, dice: Random) -> bytes:
    """The packed file with one thing done to it."""
    at = dice.randrange(len(content) + 1)
    match dice.choice(["byte", "header", "trailer", "cut", "longer", "gone", "twice", "name", "other"]):
        case "byte":
            return content[:at] + dice.randbytes(1) + content[at + 1 :]
        case "header":
            place = dice.randrange(_GZIP_HEADER)
            return content[:place] + dice.randbytes(1) + content[place + 1 :]
        case "trailer":
            return content[:-8] + dice.choice([bytes(8), b"\xff" * 8, dice.randbytes(8), b""])
        case "cut":
            return content[: dice.choice([at, dice.randrange(20)])]
        case "longer":
            return content + dice.choice([b"\0", bytes(600), b"\n", dice.randbytes(9), content, content[:at]])
        case "gone":
            return content[:at] + content[at + dice.randint(1, 16) :]
        case "twice":
            return gzip.compress(content)
        case "name":
            return content[:3] + b"\x18" + content[4:_GZIP_HEADER] + b"n" * dice.choice([9, 4_000_000])
        case _:
            return zlib.compress(content)
