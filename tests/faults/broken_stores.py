"""Packed stores, and files of a packing that was cut off, broken at random or by somebody who means harm.

dice ─▶ draw ─▶ {store, journal, part} ─▶ read ─┬─▶ a store ────▶ check_sound: the one that was packed
                                                └─▶ a sentence ─▶ check_refusal
"""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from mixcoder.data.store.image_store import ImageStore, pack
from mixcoder.pixels.codec import ImageError, Pixels
from tests.faults.broken_bytes import broken
from tests.faults.broken_experiments import change_values

Case = dict[str, Any]
"""{files: by their suffix, one character a byte; is_forged: whether checksums fit}, as JSON has it."""

PATH = Path("packed.safetensors")
NAMES = ["a.png", "b.png", "broken.png", "c/\udcff.png"]
KEY = "key"
HEADER_BYTES = 4096
_sound: dict[str, bytes] = {}


def decode(name: str) -> Pixels:
    """Pixels that follow from a name."""
    if name == "broken.png":
        raise ImageError("is damaged")
    return np.full((3, 2, 1 + NAMES.index(name)), len(name), np.uint8)


def prepare() -> None:
    """Packs the sound store, and keeps the files of its packing."""
    clear()
    pack(PATH, NAMES, decode, KEY)
    _sound[".safetensors"] = PATH.read_bytes()
    entries: list[dict[str, Any]] = [{"key": KEY, "names": zlib.crc32(json.dumps(NAMES).encode())}]
    pixels = b" " * HEADER_BYTES
    for name in NAMES[:2]:
        image = decode(name)
        channels, height, width = image.shape
        content = image.tobytes()
        entry = {"name": name, "channels": channels, "height": height, "width": width}
        entries.append({**entry, "bytes": len(content), "crc": zlib.crc32(content)})
        pixels += content
    _sound[".journal"] = b"".join(map(_line, entries))
    _sound[".part"] = pixels


def clear() -> None:
    """Removes all files of the store."""
    for suffix in (".safetensors", ".journal", ".part"):
        PATH.with_suffix(suffix).unlink(missing_ok=True)


def _line(entry: Any) -> bytes:
    text = json.dumps(entry).encode() + b"\n"
    return b"%08x %s" % (zlib.crc32(text), text)


def draw(dice: Random) -> Case:
    """The store, or the files of its packing, with one to three things done to them."""
    if dice.random() < 0.5:
        return _drawn_store(dice)
    files = {suffix: _sound[suffix] for suffix in (".journal", ".part")}
    is_forged = dice.random() < 0.4
    if is_forged:
        entries = [json.loads(line[9:]) for line in files[".journal"].splitlines()]
        files[".journal"] = b"".join(map(_line, change_values(entries, dice)))
    else:
        suffix = dice.choice(list(files))
        for _ in range(dice.randint(1, 3)):
            files[suffix] = broken(files[suffix], dice)
    return _case(files, is_forged)


def _case(files: dict[str, bytes], is_forged: bool) -> Case:
    texts = {suffix: content.decode("latin-1") for suffix, content in files.items()}
    return {"files": texts, "is_forged": is_forged}


def _drawn_store(dice: Random) -> Case:
    content = _sound[".safetensors"]
    if dice.random() < 0.5:
        for _ in range(dice.randint(1, 3)):
            content = broken(content, dice)
        return _case({".safetensors": content}, is_forged=False)
    body = content[HEADER_BYTES:]
    if dice.random() < 0.5:
        body = broken(body, dice)
    header = json.loads(content[8:HEADER_BYTES])
    header["__metadata__"]["sha256"] = hashlib.sha256(body).hexdigest()  # as whoever means harm would
    if dice.random() < 0.7:
        header = change_values(header, dice)
    text = json.dumps(header).encode().ljust(HEADER_BYTES - 8)
    return _case({".safetensors": len(text).to_bytes(8, "little") + text + body}, is_forged=True)


def read(case: Case) -> ImageStore:
    """The store, packed where it is not there.

    Raises:
        MixcoderError: it is damaged; anything else is a mistake of ours.
    """
    clear()
    for suffix, content in case["files"].items():
        PATH.with_suffix(suffix).write_bytes(content.encode("latin-1"))
    return pack(PATH, NAMES, decode, KEY)


def check_sound(case: Case, store: ImageStore) -> None:
    """An image of any store can be taken; unless somebody means harm, all are those that were packed."""
    for index in range(len(store)):
        assert store.image(index).ndim == 3
    assert not PATH.with_suffix(".journal").exists()
    if not case["is_forged"]:
        assert [store.image(i).numpy().tobytes() for i in range(3)] == [
            decode(name).tobytes() for name in NAMES if name != "broken.png"
        ]
        assert PATH.read_bytes() == _sound[".safetensors"] or ".safetensors" in case["files"]


def check_refusal(case: Case, message: str) -> None:
    """A sentence that names the store. A packing that was cut off is no reason for one by itself."""
    assert ".safetensors" in case["files"] or case["is_forged"], message
    assert message.startswith(str(PATH))
    assert message.isprintable()
    assert len(message) < 1000
