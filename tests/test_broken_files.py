"""Experiment files broken in every way that comes to mind: a clear error, never anything else."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mixcoder.errors import MixcoderError
from mixcoder.experiments.spec import read_experiment

PLAIN = """\
name: mine
data: {source: mnist}
model:
  type: mixer
  patch_size: 7
  hidden_channels: [64, 64, 16]
  latent_dim: 16
  mixer_at: [2, 3]
  mixer: cnn
  kernel_size: 3
training:
  learning_rate: 0.003
  inputs: 1_000
"""
MATRIX = """\
extends: base.yml
name: swept
model:
  mixer: ${net.mixer}
  kernel_size: ${ks}
training: {seed: "${seed}"}
matrix:
  net: [{name: a, mixer: cnn}, {name: b, mixer: cnn2d}]
  ks: [1, 3]
  seed: [0, 1]
  exclude: [{net: {name: b}, ks: 1}]
  include: [{net: {name: c, mixer: mlp}, ks: 1, seed: 7}]
"""
SCRIPT = """\
name: scripted
data: {source: unsplash}
model: {type: script, script: "scl=1|ch=8|down4|ch/2|ch=1", activation: relu6}
training: {steps: 10, optimizer: sgd, schedule: constant}
"""
WRONG = [
    "", "null", "[]", "{}", "[1, [2, [3]]]", "{a: {b: c}}", "-1", "0", "1e400", ".nan", ".inf", "99999999999999999999",
    "3.5", "true", "yes please", "'7'", "${ks}", "${nothing}", "${net.mixer.x}", "${", "!!python/object:os.system x",
    "!custom 3", "&a [*a]", "*nowhere", "2026-11-23", "0x1F", "\"\\0\"", "\u2028", "🦊", "é" * 300, "a: b: c", "<<", "@",
]  # fmt: skip
"""What to put in place of a value."""

sources = st.sampled_from([PLAIN, MATRIX, SCRIPT])


def _replace_value(text: str, draw: Callable[..., int], wrong: str) -> str:
    lines = text.splitlines(keepends=True)
    i = draw(len(lines))
    key, _, _ = lines[i].partition(":")
    lines[i] = f"{key}: {wrong}\n"
    return "".join(lines)


def _drop_line(text: str, draw: Callable[..., int], wrong: str) -> str:
    lines = text.splitlines(keepends=True)
    del lines[draw(len(lines))]
    return "".join(lines)


def _repeat_line(text: str, draw: Callable[..., int], wrong: str) -> str:
    lines = text.splitlines(keepends=True)
    i = draw(len(lines))
    return "".join([*lines[:i], lines[i], *lines[i:]])


def _indent_line(text: str, draw: Callable[..., int], wrong: str) -> str:
    lines = text.splitlines(keepends=True)
    i = draw(len(lines))
    lines[i] = "   " + lines[i]
    return "".join(lines)


def _rename_key(text: str, draw: Callable[..., int], wrong: str) -> str:
    lines = text.splitlines(keepends=True)
    i = draw(len(lines))
    lines[i] = lines[i].replace(":", f"{wrong[:3].strip()}x:", 1)
    return "".join(lines)


def _cut(text: str, draw: Callable[..., int], wrong: str) -> str:
    return text[: draw(len(text))]


def _insert(text: str, draw: Callable[..., int], wrong: str) -> str:
    place = draw(len(text))
    return text[:place] + (wrong or ":") + text[place:]


def _swap_letters(text: str, draw: Callable[..., int], wrong: str) -> str:
    place = draw(len(text) - 1)
    return text[:place] + text[place + 1] + text[place] + text[place + 2 :]


BREAKAGES = [
    _replace_value, _replace_value, _drop_line, _repeat_line, _indent_line, _rename_key, _cut, _insert, _swap_letters,
]  # fmt: skip
OVERRIDES = [
    "",
    "",
    "training.inputs=x",
    "model.mixer",
    "=3",
    "matrix=[]",
    "model={}",
    "name=[",
    "data.source.x=1",
]
seen: Counter[str] = Counter()


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(sources, st.lists(st.sampled_from(BREAKAGES), min_size=1, max_size=3), st.data())
def _read_a_broken_file(
    text: str, breakages: list[Callable[[str, Callable[..., int], str], str]], data: st.DataObject
) -> None:
    broken = text
    for breakage in breakages:
        if len(broken) > 2:
            wrong = data.draw(st.sampled_from(WRONG))
            broken = breakage(broken, lambda count: data.draw(st.integers(0, count - 1)), wrong)
    override = data.draw(st.sampled_from(OVERRIDES))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "x.yml"
        (Path(folder) / "base.yml").write_text(PLAIN)
        path.write_text(broken, encoding="utf-8")
        start = time.monotonic()
        try:
            read_experiment(path, [override] if override else [])
        except MixcoderError as error:
            seen["refused"] += 1
            lines = [
                line for line in str(error).splitlines() if not line.startswith("  ")
            ]  # a script's caret
            assert lines
            for line in lines:
                assert line.startswith((str(path), f"{folder}/base.yml", "command line, '")), line
                assert line.partition(": ")[2].strip(), line
        else:
            seen["fine"] += 1
        assert time.monotonic() - start < 20, "hangs"


def test_200_broken_files() -> None:
    seen.clear()
    _read_a_broken_file()
    assert seen.total() >= 200
    assert seen["refused"] > 0.7 * seen.total(), seen
