"""Two hundred experiment files broken at random: each is refused in a sentence, or still right."""

from __future__ import annotations

import io
import re
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml.error import ReusedAnchorWarning

from mixcoder.cli import main
from mixcoder.errors import MixcoderError
from mixcoder.experiments import plan
from mixcoder.experiments.spec import read_experiment

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
SOUND = [SINGLE, MATRIX, SCRIPT, EXTENDING]

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

_KEY = re.compile(r"[A-Za-z_]+(?=:)")
_VALUE = re.compile(r"(?<=: )[^\s,{}\[\]][^,{}\[\]\n]*|\[[^\[\]]*\]|(?<=[\[{ ])[a-z0-9]+(?=[,\]])")
_LINE = re.compile(
    r"(?:(?:x|base)\.yml(?::(?P<line>\d+))?|command line, '.*?'(?::1)?): (?P<sentence>\S.*)", re.S
)
_LINE_ENDS = re.compile("\r\n|[\r\n\x85\u2028\u2029]")


@dataclass(frozen=True)
class Broken:
    """An experiment file and what else is given to the program."""

    content: bytes
    overrides: tuple[str, ...] = ()


@st.composite
def broken_files(draw: st.DrawFn) -> Broken:
    """A sound experiment file with one to three things done to it, or to the command line."""

    def below(count: int) -> int:
        return draw(st.integers(0, max(0, count - 1)))

    def without_line(text: str) -> str:
        lines = text.splitlines(keepends=True)
        del lines[slice(at := below(len(lines)), at + 1)]
        return "".join(lines)

    def with_line_twice(text: str) -> str:
        lines = text.splitlines(keepends=True)
        return "".join([*lines[: (at := below(len(lines))) + 1], *lines[at:]])

    def with_line_moved(text: str) -> str:
        lines = text.splitlines(keepends=True)
        taken = lines.pop(below(len(lines))) if lines else ""
        lines.insert(below(len(lines) + 1), taken)
        return "".join(lines)

    def with_line_indented(text: str) -> str:
        lines = text.splitlines(keepends=True)
        at = below(len(lines))
        by = draw(st.sampled_from([" ", "  ", "\t", ""]))
        lines[at : at + 1] = [by + line.lstrip(" ") if not by else by + line for line in lines[at : at + 1]]
        return "".join(lines)

    def replaced(text: str, pattern: re.Pattern[str], new: Callable[[str], str]) -> str:
        places = list(pattern.finditer(text))
        if not places:
            return text
        place = places[below(len(places))]
        return text[: place.start()] + new(place[0]) + text[place.end() :]

    def with_key_renamed(text: str) -> str:
        names = [
            "typ",
            "größe",
            "1",
            "",
            "null",
            "[a]",
            "inputs",
            "latent_dim",
            "matrix",
            "extends",
            "<<",
            "x" * 200,
        ]
        return replaced(text, _KEY, lambda key: str(draw(st.sampled_from([key[:-1], key + key[-1], *names]))))

    def with_another_value(text: str) -> str:
        return replaced(text, _VALUE, lambda value: str(draw(st.sampled_from(WRONG))))

    def cut_off(text: str) -> str:
        return text[: below(len(text))]

    def with_a_token(text: str) -> str:
        at = below(len(text) + 1)
        return text[:at] + str(draw(st.sampled_from(TOKENS))) + text[at:]

    ways = [
        without_line, with_line_twice, with_line_moved, with_line_indented, with_key_renamed,
        with_another_value, with_another_value, with_another_value, cut_off, with_a_token, with_a_token,
    ]  # fmt: skip
    kind = draw(st.sampled_from(["text", "text", "text", "bytes", "overrides"]))
    text = draw(st.sampled_from(SOUND))
    if kind == "overrides":
        chosen = draw(st.lists(st.sampled_from(OVERRIDES), min_size=1, max_size=2))
        return Broken(text.encode(), tuple(chosen))
    if kind == "bytes":
        content, at = text.encode(), below(len(text))
        return Broken(content[:at] + draw(st.binary(min_size=1, max_size=8)) + content[at:])
    for way in draw(st.lists(st.sampled_from(ways), min_size=1, max_size=3)):
        text = way(text)
    return Broken(text.encode())


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder with the file that others extend; nothing trains."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plan, "_measured_seconds", lambda run: 0.01)
    base = SINGLE.replace("source: mnist", "source: digits").replace("patch_size: 7", "patch_size: 4")
    Path("base.yml").write_text(base)


def refusal(content: bytes, overrides: Sequence[str] = ()) -> str | None:
    """What is said of a file, None where it is right. Anything but a MixcoderError is a failure."""
    Path("x.yml").write_bytes(content)
    before = time.process_time()
    try:
        read_experiment(Path("x.yml"), overrides)
    except MixcoderError as error:
        return str(error)
    finally:
        assert time.process_time() - before < 2
    return None


def assert_says_what_is_wrong(message: str, content: bytes) -> None:
    """Each line is `file:line: sentence` or `command line, …: sentence`; a script is shown below its own."""
    assert message
    assert "Traceback" not in message
    ends = {"x": content.decode(errors="replace"), "base": Path("base.yml").read_text()}
    last = ""
    for line in message.split("\n"):
        assert all(letter.isprintable() for letter in line), line
        if line.startswith("  ") and "script: " in last:
            continue
        found = _LINE.fullmatch(line)
        assert found, line
        assert len(found["sentence"]) < 1000
        if found["line"]:
            lines = len(_LINE_ENDS.findall(ends[line.partition(".")[0]])) + 1
            assert 1 <= int(found["line"]) <= lines
        last = line


def planned(overrides: Sequence[str]) -> tuple[object, str, str]:
    """Exit status, output and errors of `mixcoder plan x.yml`."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as left:
        main(["plan", "x.yml", *overrides, "--format", "json"])
    return left.value.code, out.getvalue(), err.getvalue()


@pytest.mark.parametrize("text", SOUND)
def test_what_is_broken_below_is_sound(text: str) -> None:
    assert refusal(text.encode()) is None
    assert planned([])[0] in (0, None)


def test_broken_files_are_refused_in_a_sentence() -> None:
    outcomes: Counter[str] = Counter()
    seen: set[Broken] = set()

    @settings(
        max_examples=200,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(broken_files())
    def check(broken: Broken) -> None:
        seen.add(broken)
        message = refusal(broken.content, broken.overrides)
        outcomes["sound" if message is None else "refused"] += 1
        status, out, err = planned(broken.overrides)
        if message is None:
            assert (status or 0, err) == (0, "")
        else:
            assert_says_what_is_wrong(message, broken.content)
            assert (status, out, err) == (2, "", f"error: {message}\n")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ReusedAnchorWarning)  # told by the test below
        check()
    assert outcomes.total() >= 200
    assert len(seen) >= 150
    assert outcomes["refused"] >= 0.8 * outcomes.total()
    assert not list(Path().rglob("config.yml"))


def with_value(old: str, new: str, text: str = SINGLE) -> bytes:
    """A sound file with one thing changed."""
    assert old in text
    return text.replace(old, new).encode()


HEX = "0x" + "f" * 4000
KNOWN: Mapping[str, bytes] = {
    "more digits than Python writes": with_value("1_000", HEX),
    "such a number where a text belongs": with_value("mixer: cnn2d", f"mixer: {HEX}"),
    "such a number in a matrix": with_value("seed: [0]", f"seed: [{HEX}]", MATRIX),
    "half a letter as a key": with_value("kernel_size: 3", '"\\ud800": 3'),
    "half a letter as a key of the data": with_value("source: mnist", 'source: mnist, "\\ud800": 3'),
    "a file name with a NUL": with_value("base.yml", '"a\\0b"', EXTENDING),
    "a file name with half a letter": with_value("base.yml", '"\\ud800"', EXTENDING),
    "a file name that is too long": with_value("base.yml", "x" * 300, EXTENDING),
    "a line break in a text": with_value("mixer: cnn2d", 'mixer: "cn\\nn"'),
    "a line break in a key": with_value("kernel_size: 3", '"kernel\\nsize": 3'),
    "a text over several lines": with_value("mixer: cnn2d", "mixer: |\n    cnn\n    2d"),
    "a command to the terminal": with_value("mixer: cnn2d", 'mixer: "\\e[2Jcnn"'),
    "letters that turn the rest around": with_value("mixer: cnn2d", "mixer: \u202ennc"),
    "a key with a letter that does not show": with_value("kernel_size", "kernel\ufeff_size"),
    "a name as long as a book": with_value("mixer: cnn2d", f"mixer: {'cnn' * 9_000}"),
    "a key as long as a book": with_value("kernel_size: 3", f"{'x' * 900}: 3"),
    "a number as long as a book": with_value("1_000", "1" + "0" * 9_000),
}
"""What goes wrong still: an error that is not ours, broken lines, or more than anybody reads."""


@pytest.mark.parametrize("kind", KNOWN)
def test_known_to_go_wrong(kind: str) -> None:
    message = refusal(KNOWN[kind])
    assert message is not None
    assert_says_what_is_wrong(message, KNOWN[kind])


def test_a_name_given_to_two_values() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        message = refusal(with_value("hidden_channels: [64, 36, 16]", "a: &x 1\n  b: &x 2"))
    assert message is not None
    assert_says_what_is_wrong(message, b"")


def test_what_is_missing_is_missing_here() -> None:
    """A model of another type starts anew, so that nothing of the file below it counts."""
    Path("x.yml").write_text("extends: base.yml\nmodel: {type: cnn, channels: [4], kernel_size: 3}\n")
    with pytest.raises(MixcoderError, match=r"^x\.yml:2: model\.latent_dim: is missing$"):
        read_experiment(Path("x.yml"))


def test_nothing_to_exclude() -> None:
    message = refusal(with_value("- {mixer: mlp, size: {name: small}}", "- {}", MATRIX))
    assert message is not None
    assert "not a map" not in message
