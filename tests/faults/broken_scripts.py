"""Scripts of the script language broken at random, and the model's other arguments with them.

dice ─▶ draw ─▶ {image_shape, script, kernel_size, activation} ─▶ read ─┬─▶ a model ────▶ check_sound
                                                                        └─▶ a sentence ─▶ check_refusal
"""

from __future__ import annotations

import re
from random import Random
from typing import Any

import torch

from mixcoder.errors import ScriptError
from mixcoder.models import Autoencoder, create_model
from mixcoder.models.script import parse_script

Case = dict[str, Any]
"""What `create_model("script", …)` is given, as JSON has it."""

SOUND = [
    "ch=32|down4|ch/2|ch/2|ch/2|ch*1|ch*1|ch=1",
    "scl=3|ch=8|down2|ch*2|scl=0|ch/4|down2|ch=3",
    " ch = 4 |\n down 2 |\tscl = 1 | ch * 1\n| ch = 2 ",
    "down4|ch/16|ch*1",
    "ch=1",
]
SHAPES: list[Any] = [
    [1, 28, 28], [3, 96, 96], [1, 8, 8], [3, 32, 64], [1, 7, 13], [16, 256, 256], [65_536, 4, 4],
    [1, 65_536, 65_536], [65_536, 65_536, 65_536], [1, 1, 1], [0, 8, 8], [1, -8, 8], [1, 8, 65_537], [1, 8],
    [1, 8, 8, 8], [], [1, 8.5, 8], [1, "8", 8], [True, 8, 8], [1, None, 8], [10**30, 8, 8], [1] * 100_000,
    None, "1, 8, 8", {"C": 1}, 3,
]  # fmt: skip
KERNELS: list[Any] = [
    1, 3, 5, 7, 0, -1, 2, 4, 999_999_999, 2**31 - 1, 2**63 - 1, 10**30 + 1, 3.0, 0.5, True, None, "3", [3],
    {},
]  # fmt: skip
ACTIVATIONS: list[Any] = [
    "relu6", "relu", "gelu", "none", "", "gelo", "os.system", "__class__", "\x1b[2J", "\ud800",
    "x" * 100_000, None, 3, [], ["relu"], {"relu": 1},
]  # fmt: skip
NUMBERS = [
    "0", "1", "2", "3", "4", "7", "16", "28", "64", "65", "96", "255", "256", "257", "512", "1000", "1001",
    "65535", "65536", "65537", "99999", "100000", "4294967296", "9" * 30, "1" + "0" * 5_000,
    "0" * 5_000 + "1", "007", "-1", "+1", "1.5", "1e3", "0x10", "1_000", "٣", "²", "Ⅷ", "１２", "𝟗",
]  # fmt: skip
TOKENS = [
    "ch", "down", "scl", "=", "*", "/", "|", "||", " ", "\t", "\n", "\r\n", "\x0b", "\x0c", "\x1c", "\x85",
    "\xa0", "\u2028", "\u3000", "\ufeff", "\x00", "\x07", "\x1b[2J", "\u202e", "\u200b", "\ud800", "\udfff",
    "é", "漢", "🙂", "e\u0301", "CH", "Down", "chdown", "c h", "c\u043d", "x", "_", "-", "+", ".", ",", ";",
    ":", "(", ")", "%s", "{}", "\\", "'", '"', "#", "$", "ch=8", "ch*1", "down1", "scl=64",
]  # fmt: skip
OFTEN = [2, 20, 300, 1_001, 20_000]
LETTERS = "chdownsl0123456789=*/| \n\t\x1b\ud800é٣"

_TOKEN = re.compile(r"\s+|[A-Za-z]+|\d+|.", re.S)
_FOUND = re.compile(r"(?:(?:script|kernel_size|activation|image_shape)\S*: |model 'script' )\S.*")
_LONGEST_LINE = 400
_MOST_MODULES_TO_RUN = 200
_LONGEST_SCRIPT = 1_000_000
"""Of those that are drawn. Longer ones fill the memory that is to be measured."""


def draw(dice: Random) -> Case:
    """A sound script with one to four things done to it, or to the arguments beside it."""
    case: Case = {
        "image_shape": dice.choice(SHAPES[:6]),
        "script": dice.choice(SOUND),
        "kernel_size": dice.choice(KERNELS[:4]),
        "activation": dice.choice(ACTIVATIONS[:4]),
    }
    if dice.random() < 0.85:
        for _ in range(dice.randint(1, 4)):
            case["script"] = _broken(case["script"], dice)
    else:
        argument, values = dice.choice(
            [
                ("image_shape", SHAPES),
                ("kernel_size", KERNELS),
                ("activation", ACTIVATIONS),
                ("script", KERNELS),
            ]
        )
        case[argument] = dice.choice(values)
    return case


def prepare() -> None:
    """Loads what is loaded once."""
    for script in SOUND:
        read({"image_shape": [1, 28, 28], "script": script})


def read(case: Case) -> Autoencoder:
    """The model that a case states, without memory for its weights.

    Raises:
        MixcoderError: it states nothing sound; anything else is a mistake of ours.
    """
    with torch.device("meta"):
        return create_model("script", **case)


def check_sound(case: Case, model: Autoencoder) -> None:
    """The script can be parsed by itself, and the model makes images of images."""
    assert parse_script(case["script"])
    if sum(1 for _ in model.modules()) <= _MOST_MODULES_TO_RUN:
        images = torch.zeros(2, *model.image_shape, device="meta")
        assert model.encode(images).shape[1:] == model.latent_shape
        assert model(images).shape == images.shape


def check_refusal(case: Case, message: str) -> None:
    """A sentence that names the argument, and of a script the line, with a caret under a character of it."""
    lines = message.split("\n")
    assert _FOUND.fullmatch(lines[0]), lines[0]
    assert all(len(line) < _LONGEST_LINE and all(map(str.isprintable, line)) for line in lines), lines
    assert len(lines) in (1, 3)
    if len(lines) == 3:
        assert re.fullmatch(r"  .*", lines[1])
        assert re.fullmatch(r"   *\^", lines[2])
        assert len(lines[2]) <= len(lines[1]) + 1
    _check_parser(case["script"])


def _check_parser(script: object) -> None:
    """The parser by itself refuses by a ScriptError whose place lies within the script, or not at all."""
    if not isinstance(script, str):
        return
    try:
        assert parse_script(script)
    except ScriptError as error:
        assert 0 <= error.position <= len(script)


def _broken(script: str, dice: Random) -> str:
    """The script with one thing done to its words, signs and numbers."""
    tokens = _TOKEN.findall(script)
    at = dice.randrange(len(tokens) + 1)
    match dice.choice(
        ["gone", "again", "moved", "token", "number", "number", "many", "long", "cut", "noise"]
    ):
        case "gone":
            del tokens[at : at + dice.randint(1, 3)]
        case "again":
            tokens[at:at] = tokens[at : at + dice.randint(1, 8)]
        case "moved":
            tokens.insert(at, tokens.pop(dice.randrange(len(tokens))) if tokens else "|")
        case "token":
            tokens.insert(at, dice.choice(TOKENS))
        case "number":
            places = [i for i, token in enumerate(tokens) if token.isdecimal()]
            place = dice.choice(places or [0])
            tokens[place : place + 1] = [dice.choice(NUMBERS)]
        case "many":
            tokens.insert(at, dice.choice(TOKENS) * dice.choice(OFTEN))
        case "long":
            return "|".join([script] * dice.choice([2, 8, 40, 300]))[:_LONGEST_SCRIPT]
        case "cut":
            del tokens[at:]
        case "noise":
            tokens.insert(at, "".join(dice.choices(LETTERS, k=dice.randint(1, 40))))
    return "".join(tokens)
