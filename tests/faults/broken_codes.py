"""Files of codes broken at random: in their header, in their tensors, and in what their metadata states.

dice ─▶ draw ─▶ {content} ─▶ read ─┬─▶ codes ──────▶ check_sound
                                   └─▶ a sentence ─▶ check_refusal
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import torch

from mixcoder.inference import Codes
from tests.faults.broken_bytes import broken

Case = dict[str, Any]
"""{content: a file, one character a byte}, as JSON has it."""

FILE = "x.safetensors"
SIZES = [-1, 0, 1, 2, 3, 5, 7, 2**31, 2**63]
VALUES = ["", "0", "1", "5", "8", "16", "17", "08", "8.0", "mixcoder codes 1", "mixcoder codes 3", "x" * 400]


@cache
def _sound() -> list[bytes]:
    """Seven codes of 2 x 3 numbers in float32, and with some numbers of bits."""
    latents = torch.randn(7, 2, 3, generator=torch.Generator().manual_seed(4))
    names = [f"{i}.png" for i in range(7)]
    contents = []
    with TemporaryDirectory() as folder:
        for bits in (None, 1, 5, 8, 16):
            Codes(names, latents, "0" * 64, bits).save(Path(folder) / FILE)
            contents.append((Path(folder) / FILE).read_bytes())
    return contents


def draw(dice: Random) -> Case:
    """A sound file with up to three things done to it."""
    content = dice.choice(_sound())
    for _ in range(dice.choice([0, 1, 1, 2, 3])):
        content = _broken_header(content, dice) if dice.random() < 0.6 else broken(content, dice)
    return {"content": content.decode("latin-1")}


def prepare() -> None:
    """Makes what is made once."""
    _sound()


def read(case: Case) -> Codes:
    """The codes of a case.

    Raises:
        MixcoderError: it is not sound; anything else is a mistake of ours.
    """
    Path(FILE).write_bytes(case["content"].encode("latin-1"))
    return Codes.open(FILE)


def check_sound(case: Case, codes: Codes) -> None:
    """There is a name for each code. Codes of few bits are finite; another file holds the nearest ones."""
    assert len(codes.names) == len(codes.latents) > 0
    assert codes.latents.dtype == torch.float32
    if codes.bits is not None:
        assert codes.latents.isfinite().all()
        codes.save("again.safetensors")
        before, after = codes.latents.double(), Codes.open("again.safetensors").latents.double()
        width = before.amax(0) - before.amin(0)
        assert ((after - before).abs() <= 0.51 * width / (2**codes.bits - 1) + 1e-40).all()


def check_refusal(case: Case, message: str) -> None:
    """A sentence that names the file."""
    assert message.startswith(f"{FILE}: ")
    assert message.isprintable()
    assert len(message) < 500


def _broken_header(content: bytes, dice: Random) -> bytes:
    """The file with one thing done to its header; the file as it is where that is none any more."""
    length = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8 : 8 + length])
        header["__metadata__"].get("bits")
        name = dice.choice([key for key in header if key != "__metadata__"])
        _change(header, name, dice)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return content
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def _change(header: dict[str, Any], name: str, dice: Random) -> None:
    """Changes a tensor's entry, or what the metadata states."""
    entry, metadata = header[name], header["__metadata__"]
    match dice.choice(["shape", "size", "type", "offsets", "gone", "renamed", "metadata", "less metadata"]):
        case "shape":
            entry["shape"] = dice.choice(
                [[], entry["shape"][::-1], [*entry["shape"], 1], [1, *entry["shape"]]]
            )
        case "size":
            entry["shape"][dice.randrange(len(entry["shape"]))] = dice.choice(SIZES)
        case "type":
            entry["dtype"] = dice.choice(["F32", "I32", "U8", "I8", "BOOL", "F64", "BF16", "F99"])
        case "offsets":
            entry["data_offsets"][dice.randrange(2)] += dice.choice([-8, -1, 1, 8, 2**40])
        case "gone":
            del header[name]
        case "renamed":
            header[dice.choice(["latents", "levels", "lowest", "highest", "names", "x"])] = header.pop(name)
        case "metadata":
            metadata[dice.choice(["bits", "format", "model"])] = dice.choice(VALUES)
        case _:
            metadata.pop(dice.choice(["bits", "format", "model"]), None)
