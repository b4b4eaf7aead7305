"""Experiment files broken at random: in their text, their bytes or their values, or on the command line.

dice ─▶ draw ─▶ {content, overrides} ─▶ read ─┬─▶ an Experiment ─▶ check_sound
                                              └─▶ a sentence ────▶ check_refusal
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from ruamel.yaml import YAML

from mixcoder.errors import MixcoderError
from mixcoder.experiments.file.search_section import Search
from mixcoder.experiments.file.spec import Experiment, Run, read_experiment
from mixcoder.experiments.searches.trial_runs import finalist_run, trial_run
from mixcoder.experiments.searches.trials import Trial

Case = dict[str, Any]
"""{content: an experiment file, one character a byte; overrides: a list of key=value}, as JSON has it."""

SINGLE = """\
name: mine
data: {source: mnist}
model:
  type: mixer
  patch_size: 7
  hidden_channels: [64, 36, 16]
  latent_dim: 16
  mixer_at: [2, 3]
  mixer: cnn2d
  kernel_size: 3
training:
  learning_rate: 0.003
  inputs: 1_000
"""
MATRIX = """\
name: mine
data: {source: digits}
model:
  type: mixer
  patch_size: ${size.patch}
  hidden_channels: ${size.hidden}
  latent_dim: 8
  mixer_at: [1]
  mixer: ${mixer}
training: {epochs: 1, seed: "${seed}"}
matrix:
  mixer: [cnn, mlp]
  size:
    - {name: small, patch: 2, hidden: [4, 4]}
    - {name: large, patch: 4, hidden: [9]}
  seed: [0]
  exclude:
    - {mixer: mlp, size: {name: small}}
  include:
    - {mixer: cnn2df, size: {name: own, patch: 2, hidden: [4]}, seed: 7}
"""
SCRIPT = """\
name: mine
data: {source: mnist}
model: {type: script, script: "ch=8|down2|ch*1|ch/2|ch=1", kernel_size: 3}
training: {steps: 3, batch_size: 8, optimizer: muon, warmup_steps: 1}
"""
EXTENDING = """\
extends: base.yml
name: other
model:
  mixer: ${m}
training: {epochs: 2}
matrix: {m: [cnn, mlp]}
"""
PHOTOS = """\
name: mine
data: {source: folder, path: photos, crop_size: 32, longest_edge: 64, validation_share: 0.2}
model: {type: cnn, channels: [8, 4], kernel_size: 3, latent_dim: 5, activation: gelu}
training: {inputs: 300, batch_size: 8, optimizer: sgd, weight_decay: 0.1, schedule: constant, loss: huber}
"""
HUB = """\
name: mine
data: {source: hub, name: somebody/photos, crop_size: 24, revision: null}
model:
  type: mixer
  patch_size: 8
  hidden_channels: [16, 16]
  latent_dim: 4
  mixer_at: [1]
  mixer: cnn2df
  encoder_mixer_activation: none
  norm: rms
training: {inputs: 100, validations: 2, compile: "off", precision: float32}
"""
SEARCH = """\
name: mine
data: {source: digits, search_holdout: 300}
model: {type: mixer, patch_size: 4, hidden_channels: ["${size.hidden}"], latent_dim: 3, mixer: "${mixer}"}
training: {learning_rate: "${rate}", inputs: 300, batch_size: 8}
search:
  trials: 5
  seed: 3
  inputs: [64, 128]
  keep: 0.4
  finalists: 1
  seeds: [0, 7]
  limits: {params: 5_000, madds: 100_000}
  values:
    rate: {low: 0.001, high: 0.1, log: true}
    size: [{name: small, hidden: 4}, {name: large, hidden: 9}]
    mixer: [cnn, mlp]
"""
STACK = """\
name: mine
data: {source: digits}
model:
  type: stack
  patch_size: 4
  latent_dim: 4
  code_channels: 4
  encoder: [{channels: 6}]
  decoder:
    - {channels: 6}
    - repeat: 2
      layers:
        - mixer: {name: grouped, groups: 2}
        - film
  output_activation: {name: sigmoid, scale: 8}
  refine: {steps: 2}
training: {inputs: 1_000}
"""
SOUND = [SINGLE, MATRIX, SCRIPT, STACK, EXTENDING, PHOTOS, HUB, SEARCH]
BASE = SINGLE.replace("source: mnist", "source: digits").replace("patch_size: 7", "patch_size: 4")
"""What is extended: base.yml."""

VALUES = """\
null|~|''|""|[]|{}|[1, two]|[[1]]|[null]|{a: {b: [1]}}|{name: 3}|text|'7'|"${seed}"|${nothing}|
${size.nothing}|${|${}|${${seed}}|a ${m} b|true|-1|0|0.5|-0.0|1e400|1e-400|.nan|.inf|-.inf|
99999999999999999999999|0o17|1_|0xFFFFFFFFFFFFFFFFFFFFFFFF|1:30:00|2026-11-23|<<|=|!!int x|!!float ''|
!!bool x|!!str 3|!!map x|!!null x|! x|!!python/object/apply:os.system [id]|!!binary aGk=|!!set {a, b}|
!mine x|!<tag:x> 3|&a 1|*nowhere|&a [*a]|[1, 2|{a: 1|[1, 2}|'open|"open|"\\q"|- 3|? a|@x|`x`|%x|a: b: c|
# gone|...|---|>+9 x|é漢字🙂|\x01|\x7f|\ttab"""
WRONG = [
    *VALUES.replace("|\n", "|").split("|"),
    "| block",
    "x" * 200,
    "1" + "0" * 400,
    "[" * 40,
    "[" * 40 + "]" * 40,
]
TOKENS = [*"[]{}&*!|>'\"%@`#:-?,.\\$\t\r\n\x00\x07", ": ", "- ", "${", "---\n", "...\n", "%YAML 1.1\n"]
MANY = [
    *TOKENS,
    "a: 1\n",
    "1, ",
    "[1, ",
    "{a: ",
    "&a ",
    "? ",
    "!!str ",
    "[",
    "{",
    "- ",
    "${seed}",
    "${",
    "x",
    "é",
]
OVERRIDES = [
    "training", "=3", "a b=3", "training.=3", "training..seed=3", "model.0=3", "training.seed.x=3",
    "name.x.y.z=1", "name=", "name=../up", "name=[a]", "training=", "training=3", "training.inputs=[4",
    "training.inputs=-1", "training.inputs=many", "training.learning_rate=.nan",
    "training.seed=99999999999999999999999", "training.sed=1", "model=cnn", "model.type=cnm",
    "model.type=cnn", "model.type=[cnn]", "model.kernel_size=2", "model.mixer=${nothing}",
    "model.mixer=!!python/name:os.system x", "model.mixer=*a", "model.image_shape=[1, 8, 8]",
    "data=mnist", "data.source=mnits", "data.size=3", "data.source=null", "matrix=3", "matrix=[]",
    "matrix={}", "matrix.seed=3", "matrix.seed=[]", "matrix.extra=[1, 2]", "matrix.m=[cnn, cnn]",
    "matrix.exclude={a: 1}", "matrix.include=[{m: 3}]", "matrix.mixer=[{a: 1}]", "extends=base.yml",
    "trainning.inputs=3", "größe=3",
]  # fmt: skip

NAMES = [
    "typ", "größe", "1", "", "null", "[a]", "inputs", "latent_dim", "matrix", "extends", "<<", "x" * 200,
]  # fmt: skip
SCALARS: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 5, 28, 255, 256, 257, 65_535, 65_536, 65_537, 1_000_000, 1_000_001,
    2**31 - 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, 10**12, 10**12 + 1, 10**30, -(2**63), 0.0, -0.0,
    0.5, 1.0, 1e-30, 1e30, 1.1e30, 1e308, 5e-324, "", "cnn", "mlp", "cnn2df", "mixer", "script", "digits",
    "mnist", "folder", "none", "gelu", "os.system", "../up", "/etc/passwd", "${seed}", "${size}", "${a.b.c}",
    "x" * 5_000, "ch=8|down2|ch=1", "|".join(["ch*1"] * 512), "\x1b[2J", "\u202e", "\ud800", "a\nb", "a\0b",
    "🙂", "3", "1e3",
]  # fmt: skip
MORE_KEYS = [
    "extends", "path", "train", "image_shape", "script", "steps", "epochs", "matrix", "exclude", "include",
    "n", "state", "", "a b", "größe", "\ud800", "\x1b", "x" * 900,
]  # fmt: skip
OFTEN = [2, 20, 300, 3_000]

_KEY = re.compile(r"[A-Za-z_]+(?=:)")
_VALUE = re.compile(r"(?<=: )[^\s,{}\[\]][^,{}\[\]\n]*|\[[^\[\]]*\]|(?<=[\[{ ])[a-z0-9]+(?=[,\]])")
_LINE = re.compile(
    r"(?:(?P<file>(?:x|base)\.yml|/etc/passwd)(?::(?P<line>\d+))?|command line, '.*?'(?::1)?): "
    r"(?P<sentence>\S.*)",
    re.S,
)
_LINE_ENDS = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
_LONGEST_SENTENCE = 1000
_MOST_MODULES_TO_RUN = 100


def draw(dice: Random) -> Case:
    """A sound experiment file with one to three things done to it, or to the command line."""
    text, overrides = dice.choice(SOUND), []
    kind = dice.choice(["text", "text", "text", "values", "values", "bytes", "overrides"])
    if kind == "text":
        for way in dice.choices(_WAYS, k=dice.choice([1, 1, 2, 3])):
            text = way(text, dice)
    elif kind == "values":
        text = _with_other_values(text, dice)
    elif kind == "overrides":
        overrides = [_override(dice) for _ in range(dice.randint(1, 2))]
    content = text.encode()
    if kind == "bytes":
        at = dice.randrange(len(content))
        content = content[:at] + dice.randbytes(dice.randint(1, 8)) + content[at:]
    return {"content": content.decode("latin-1"), "overrides": overrides}


def prepare() -> None:
    """Puts what is extended into the current folder, where files are read, and loads what is loaded once."""
    Path("base.yml").write_text(BASE)
    for text in SOUND:
        read({"content": text, "overrides": []})


def read(case: Case) -> Experiment:
    """What a case states.

    Raises:
        MixcoderError: it states nothing sound; anything else is a mistake of ours.
    """
    Path("x.yml").write_bytes(case["content"].encode("latin-1"))
    return read_experiment(Path("x.yml"), case["overrides"])


def check_sound(case: Case, experiment: Experiment) -> None:
    """Every run makes images of images; of a search, those of some trials and of a finalist."""
    runs = [*experiment.runs, *_some_runs(experiment.search)]
    assert runs
    for run in runs:
        with torch.device("meta"):
            model = run.create_model()
        if sum(1 for _ in model.modules()) <= _MOST_MODULES_TO_RUN:
            images = torch.zeros(2, *model.image_shape, device="meta")
            assert model(images).shape == images.shape


def _some_runs(search: Search | None) -> Iterator[Run]:
    """Runs of random combinations, those that fit together."""
    generator = np.random.default_rng(0)
    for number in range(3 if search else 0):
        assert search
        trial = Trial({name: space.draw(generator) for name, space in search.spaces.items()}, number)
        with suppress(MixcoderError):
            yield trial_run(search, trial, len(search.section.inputs) - 1)
    if search:
        search.fingerprint()
        yield finalist_run(search, Trial(search.probes()[0]), search.section.seeds[0])


def check_refusal(case: Case, message: str) -> None:
    """Each line is `file:line: sentence` or `command line, …: sentence`; a script is shown below its own."""
    assert message
    assert "Traceback" not in message
    contents = {"x.yml": case["content"].encode("latin-1").decode(errors="replace"), "base.yml": BASE}
    last = ""
    for line in message.split("\n"):
        assert all(letter.isprintable() for letter in line), line
        if line.startswith("  ") and "script: " in last:
            continue
        found = _LINE.fullmatch(line)
        assert found, line
        assert len(found["sentence"]) < _LONGEST_SENTENCE, line
        if found["line"] and found["file"] in contents:
            lines = len(_LINE_ENDS.findall(contents[found["file"]])) + 1
            assert 1 <= int(found["line"]) <= lines, line
        last = line


# ── what is done to the text ─────────────────────────────────────────────────────────────────────────


def _without_line(text: str, dice: Random) -> str:
    lines = text.splitlines(keepends=True)
    del lines[slice(at := _below(len(lines), dice), at + 1)]
    return "".join(lines)


def _with_line_twice(text: str, dice: Random) -> str:
    lines = text.splitlines(keepends=True)
    return "".join([*lines[: (at := _below(len(lines), dice)) + 1], *lines[at:]])


def _with_line_moved(text: str, dice: Random) -> str:
    lines = text.splitlines(keepends=True)
    taken = lines.pop(_below(len(lines), dice)) if lines else ""
    lines.insert(_below(len(lines) + 1, dice), taken)
    return "".join(lines)


def _with_line_indented(text: str, dice: Random) -> str:
    lines = text.splitlines(keepends=True)
    at, by = _below(len(lines), dice), dice.choice([" ", "  ", "\t", ""])
    lines[at : at + 1] = [by + line if by else line.lstrip(" ") for line in lines[at : at + 1]]
    return "".join(lines)


def _with_key_renamed(text: str, dice: Random) -> str:
    return _replaced(text, _KEY, lambda key: dice.choice([key[:-1], key + key[-1], *NAMES]), dice)


def _with_another_value(text: str, dice: Random) -> str:
    return _replaced(text, _VALUE, lambda value: dice.choice(WRONG), dice)


def _cut_off(text: str, dice: Random) -> str:
    return text[: _below(len(text), dice)]


def _with_a_token(text: str, dice: Random) -> str:
    at = _below(len(text) + 1, dice)
    return f"{text[:at]}{dice.choice(TOKENS)}{text[at:]}"


def _with_many_tokens(text: str, dice: Random) -> str:
    at = _below(len(text) + 1, dice)
    return f"{text[:at]}{dice.choice(MANY) * dice.choice(OFTEN)}{text[at:]}"


_WAYS: list[Callable[[str, Random], str]] = [
    _without_line, _with_line_twice, _with_line_moved, _with_line_indented, _with_key_renamed, _cut_off,
    _with_another_value, _with_another_value, _with_another_value, _with_a_token, _with_a_token,
    _with_many_tokens,
]  # fmt: skip


def _below(count: int, dice: Random) -> int:
    return dice.randrange(max(1, count))


def _replaced(text: str, pattern: re.Pattern[str], new: Callable[[str], str], dice: Random) -> str:
    places = list(pattern.finditer(text))
    if not places:
        return text
    place = dice.choice(places)
    return text[: place.start()] + new(place[0]) + text[place.end() :]


# ── what is done to the values, and on the command line ──────────────────────────────────────────────


def _with_other_values(text: str, dice: Random) -> str:
    return json.dumps(change_values(YAML(typ="safe", pure=True).load(text), dice), indent=1)


def change_values(data: Any, dice: Random) -> Any:
    """The same map or list, its values replaced, taken away, moved, multiplied or nested."""
    for _ in range(dice.choice([1, 1, 2, 3])):
        places = list(_places(data))
        if places:
            holder, key = dice.choice(places)
            _change(holder, key, dice.choice([within[at] for within, at in places]), dice)
    return data


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every map or list with each of its keys."""
    if isinstance(node, dict | list):
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            yield node, key
            yield from _places(node[key])


def _change(holder: Any, key: Any, other: Any, dice: Random) -> None:
    """Does one thing to the value that `holder` has under `key`; `other` is another one of the file."""
    value = holder[key]
    match dice.choice(["scalar", "scalar", "gone", "moved", "many", "named", "crowd", "deep", "number"]):
        case "scalar":
            holder[key] = dice.choice(SCALARS)
        case "gone":
            del holder[key]
        case "moved":
            holder[key] = copy.deepcopy(other)
        case "many":
            holder[key] = (value if isinstance(value, list) else [value]) * dice.choice([0, *OFTEN[:3]])
        case "named" if isinstance(holder, dict):
            holder[dice.choice([*NAMES, *MORE_KEYS])] = copy.deepcopy(other)
        case "crowd" if isinstance(value, dict):
            value |= {f"a{i}": copy.deepcopy(other) for i in range(dice.choice(OFTEN[:3]))}
        case "deep":
            for _ in range(dice.choice([1, 2, 17, 18, 19, 20, 40])):
                value = dice.choice([[value], {dice.choice(MORE_KEYS): value}])
            holder[key] = value
        case "number" if isinstance(value, int | float):
            holder[key] = dice.choice([value + 1, value - 1, -value, value * 2, value * 10**9, value / 3])


def _override(dice: Random) -> str:
    if dice.random() < 0.5:
        return dice.choice(OVERRIDES)
    key = dice.choice(["name", "data", "model", "training", "matrix", "extends"])
    below = dice.choice(["", ".type", ".source", ".mixer", ".seed", ".inputs", ".kernel_size", ".a.b", ".m"])
    return f"{key}{below}={dice.choice(WRONG)}"
