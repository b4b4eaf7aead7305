"""YAML as plain data with lines, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from mixcoder.errors import ExperimentError
from mixcoder.experiments.file.yaml_file import parse_assignment, read_document


def document(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "x.yml"
    path.write_text(text, encoding="utf-8")
    return path


def test_plain_values_and_their_lines(tmp_path: Path) -> None:
    path = document(
        tmp_path,
        "a: 1_000_000\nb: 1e-3\nc: on\nd:\n  e: [1, 2.5, x]\n  f: {g: ~, h: true}\ni: none\n",
    )
    read = read_document(path)
    assert read.data == {
        "a": 1_000_000,
        "b": 0.001,
        "c": "on",
        "d": {"e": [1, 2.5, "x"], "f": {"g": None, "h": True}},
        "i": "none",
    }
    assert [type(value) for value in (read.data["a"], read.data["b"], read.data["c"])] == [int, float, str]
    assert read.place(("d", "f", "h")) == f"{path}:6"
    assert read.place(("d", "e", 2)) == f"{path}:5"
    assert read.place(("d", "unknown", "below")) == f"{path}:4"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: 1\nb: 2\na: 3\n", "x.yml:3: a: stands here a second time; keep one of the two"),
        ("- a\n- b\n", "x.yml:1: must be a map of keys and values"),
        ("", "x.yml:1: must be a map of keys and values"),
        ("just text", "x.yml:1: must be a map of keys and values"),
        ("a: [1, 2\nb: 3\n", "x.yml:2: is not valid YAML"),
        ("a: {b: 1\n", "x.yml:2: is not valid YAML"),
        ("a:\n\t- b\n", "x.yml:2: is not valid YAML"),
        (
            "a:\n  - {b: ${n}}\n",
            "x.yml:2: is not valid YAML: within { } and [ ], a value with a brace, such as ${name}",
        ),
        (
            "a: [1, ${n}]\n",
            "x.yml:1: is not valid YAML: within { } and [ ], a value with a brace, such as ${name}",
        ),
        ("a: 'b\n", "is not valid YAML"),
        (
            "a: !!python/object/apply:os.system [ls]\n",
            "x.yml:1: a: the tag '!python/object/apply:os.system' is not allowed",
        ),
        ("a: 1\nb: !mine {c: 1}\n", "x.yml:2: b: the tag '!mine' is not allowed"),
        ("a: 2026-11-23\n", "x.yml:1: a: '2026-11-23' has a meaning of its own in YAML; put it in quotes"),
        ("1: a\n", "x.yml:1: the key '1' must be a text"),
        ("a: &a [*a]\n", "nested too deeply"),
        ("a: " + "[" * 3000, "x.yml:1: is nested too deeply"),
        ("a: 1\n" * 10_000, "x.yml:3500: is nested too deeply or expands too far"),
        ("a: " + "[" * 30 + "]" * 30, "nested too deeply or expands too far"),
        (
            "a: &a [x, x, x, x, x, x, x, x, x]\n"
            + "".join(
                f"{n}: &{n} [{', '.join([f'*{o}'] * 9)}]\n"
                for o, n in zip("abcdefgh", "bcdefghi", strict=True)
            ),
            "expands too far",
        ),
        ("a: *nowhere\n", "is not valid YAML"),
        ("a: 1\n---\nb: 2\n", "is not valid YAML"),
        ("%YAML 9\n", "is not valid YAML"),
        ("a: \x01\n", "is not valid YAML"),
    ],
)
def test_clear_errors(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(ExperimentError) as caught:
        read_document(document(tmp_path, text))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"nothing.yml: no such file"):
        read_document(tmp_path / "nothing.yml")
    with pytest.raises(ExperimentError, match="is a folder; name an experiment file"):
        read_document(tmp_path)
    (tmp_path / "binary.yml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ExperimentError, match="is not a text file in UTF-8"):
        read_document(tmp_path / "binary.yml")
    (tmp_path / "huge.yml").write_text("a: 1\n" * 300_000)
    with pytest.raises(ExperimentError, match="is larger than 250,000 bytes"):
        read_document(tmp_path / "huge.yml")


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("training.inputs=50_000", "training.inputs", 50_000),
        ("a=3e-4", "a", 0.0003),
        ("a=[1, 2]", "a", [1, 2]),
        ("a=mlp", "a", "mlp"),
        ("a=", "a", None),
        ("a=ch=32|down4", "a", "ch=32|down4"),
        ("a={b: 1}", "a", {"b": 1}),
    ],
)
def test_assignments(text: str, key: str, value: object) -> None:
    assert parse_assignment(text) == (key, value)


@pytest.mark.parametrize(
    "text", ["training", "=3", "a b=3", "a..b=3", "a=[1", "a=!!python/name:os.system ''"]
)
def test_wrong_assignments(text: str) -> None:
    with pytest.raises(ExperimentError, match="command line, "):
        parse_assignment(text)


BARE = "no ': ' stands after the key, as in 'key: value'"


@pytest.mark.parametrize(
    ("text", "line", "sentence"),
    [
        ("name: x\ndata\n  source: digits\nmodel: {}\n", 2, BARE),
        ("name: x\ndata: {}\nmodel\ntraining: {}\n", 3, BARE),
        ("name: x\n\n# comment\ndata\n\n\n# more\nmodel: {}\n", 4, BARE),
        ("model:\n  type: cnn\n  channels 4\n  depth: 2\n", 3, BARE),
        ("matrix:\n  seed [1, 2]\n  mixer: [a]\n", 2, BARE),
        ("name x\ndata: {}\n", 1, BARE),
        ("name:x\ndata: {}\n", 1, BARE),
        ("name: x\r\ndata\r\nmodel: {}\r\n", 2, BARE),
        ("name: x\ntraining\n", 2, BARE),
        ("name: x: y\ndata: {}\n", 1, "a value with ': ' in it must stand in quotes"),
        ("a: 1\nb: c d: e\n", 2, "a value with ': ' in it must stand in quotes"),
        ("a:\n  b: 1\n c: 2\n", 3, "the indentation fits none of the lines above"),
        ("a: 1\nb: {c: 1\nd: {}\n", 3, "perhaps what begins in line 2 is not closed"),
        ("a: 1\nb: [1, 2\nd: 1\n", 3, "perhaps what begins in line 2 is not closed"),
        ("a: 1\nb: 'x\nd: 1\n", 4, "perhaps what begins in line 2 is not closed"),
    ],
)
def test_a_mistake_is_told_with_the_line_to_mend(tmp_path: Path, text: str, line: int, sentence: str) -> None:
    (tmp_path / "x.yml").write_bytes(text.encode())
    with pytest.raises(ExperimentError) as caught:
        read_document(tmp_path / "x.yml")
    [problem] = caught.value.problems
    assert problem.startswith(f"{tmp_path / 'x.yml'}:{line}: is not valid YAML: ")
    assert problem.endswith(sentence)
