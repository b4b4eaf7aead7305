"""A run that is damaged, of a plugin or of another version is one row; what is said of the others stays."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mixcoder.experiments.file.spec import read_experiment
from mixcoder.experiments.results.records import records_in, result_rows
from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.experiments.runs.training_run import train_run
from tests.conftest import Cli, slow

DATA = "{source: digits, classes: null, validation_classes: null, search_holdout: null}"
FILE = f"""\
name: mine
data: {DATA}
model: {{type: mixer, patch_size: 4, hidden_channels: [9], latent_dim: 3, mixer_at: [1], mixer: "${{mixer}}"}}
training: {{steps: 2, validations: 1, seed: "${{seed}}"}}
matrix: {{mixer: [cnn, mlp], seed: [0, 1]}}
"""
OTHERS = """\
name: others
data: {source: folder, path: pictures, crop_size: 8, channels: 1}
model: {type: cnn, channels: [3], kernel_size: 3, latent_dim: 3}
training: {epochs: 1, validations: 1}
"""
HINT = "is not known here; load its plugin with --plugin"

Damage = Callable[[Path], object]


def _config(old: str, new: str) -> Damage:
    def damage(run: Path) -> None:
        path = run / "config.yml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return damage


def _instead(name: str, make: Callable[[Path], object]) -> Damage:
    def damage(run: Path) -> None:
        (run / name).unlink(missing_ok=True)
        make(run / name)

    return damage


def _content(name: str, content: bytes) -> Damage:
    return _instead(name, lambda path: path.write_bytes(content))


def _result(**changes: object) -> Damage:
    def damage(run: Path) -> None:
        path = run / "result.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return damage


def _loop(path: Path) -> None:
    path.symlink_to(path.absolute())


UNREADABLE: dict[str, tuple[Damage, str]] = {
    "a mixing layer of a plugin": (_config("mixer: mlp", "mixer: mine"), f"mixing layer 'mine' {HINT}"),
    "a model of a plugin": (_config("type: mixer", "type: mine"), f"model 'mine' {HINT}"),
    "a source of a plugin": (_config("source: digits", "source: mine"), f"data source 'mine' {HINT}"),
    "a later key": (_config("  patch_size: 4", "  turn: 3\n  patch_size: 4"), "unknown key 'turn'"),
    "a later section": (_config("name: mine", "name: mine\nteacher: mine"), "unknown key 'teacher'"),
    "a missing key": (_config("  patch_size: 4\n", ""), "config.yml:3: model.patch_size: is missing"),
    "a missing section": (_config(f"data: {DATA}\n", ""), "config.yml:1: data: is missing"),
    "a section of another kind": (_config(DATA, "[3]"), "config.yml:2: data: must be a map"),
    "no YAML": (_content("config.yml", b"name: ["), "config.yml:1: is not valid YAML"),
    "no UTF-8": (_content("config.yml", b"name: \xff"), "config.yml: is not a text file in UTF-8"),
    "empty": (_content("config.yml", b""), "config.yml:1: must be a map"),
    "a list": (_content("config.yml", b"[1]"), "config.yml:1: must be a map"),
    "huge": (_content("config.yml", b"a: b\n" * 99_999), "config.yml: is larger than"),
    "a folder": (_instead("config.yml", Path.mkdir), "config.yml: is not a plain file"),
    "a pipe": (_instead("config.yml", os.mkfifo), "config.yml: is not a plain file"),
    "a dangling link": (_instead("config.yml", lambda it: it.symlink_to("gone")), "config.yml: no such file"),
    "a link to itself": (_instead("config.yml", _loop), "config.yml: "),
    "gone": (lambda run: (run / "config.yml").unlink(), "config.yml: no such file"),
}
FAILED: dict[str, tuple[Damage, str]] = {
    "NaN": (_result(validation_loss=math.nan), "validation_loss: must be a finite number, not nan"),
    "infinity": (_result(psnr=math.inf), "psnr: must be a finite number, not inf"),
    "a text for a number": (_result(params="many"), "params: must be a whole number, not the text 'many'"),
    "a folder": (_instead("result.json", Path.mkdir), "result.json: is not a plain file"),
    "a pipe": (_instead("result.json", os.mkfifo), "result.json: is not a plain file"),
    "a dangling link": (_instead("result.json", lambda it: it.symlink_to("gone")), "result.json: "),
    "empty": (_content("result.json", b""), "result.json: is not readable JSON"),
    "no UTF-8": (_content("result.json", b'{"a": "\xff"}'), "result.json: is not readable JSON"),
    "a list": (_content("result.json", b"[]"), "result.json: is not a JSON object"),
    "nested deep": (_content("result.json", b"[" * 99_999), "result.json: is nested too deeply"),
}
HARMLESS: dict[str, Damage] = {
    "no metrics": lambda run: (run / "metrics.jsonl").unlink(),
    "metrics of a folder": _instead("metrics.jsonl", Path.mkdir),
    "metrics of a pipe": _instead("metrics.jsonl", os.mkfifo),
    "metrics of bytes": _content("metrics.jsonl", b"\xff\n[1]\n{}\n"),
    "metrics that cannot be": _content(
        "metrics.jsonl",
        b'{"step": 1, "inputs": -64, "training_loss": -1.0, "validation_loss": NaN}\n'
        b'{"step": 2, "inputs": 128, "training_loss": 0.0, "validation_loss": -0.5}\n',
    ),
    "no more than a loss": _content("result.json", b'{"validation_loss": 0.5}'),
    "other keys": _result(finished=[1], versions={"torch": [2]}, execution=None, later={"a": 1}),
    "figures that cannot be": _result(params=-3, madds=0, train_minutes=0.0, validation_loss=-0.5),
    "a failure before": _content("failure.json", b"{}"),
    "no model": lambda run: (run / "model.json").unlink(),
    "another model": _content("model.json", b'{"format": 1, "type": "mine", "arguments": {}}'),
    "a lock of a folder": _instead(".lock", Path.mkdir),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four finished runs and their experiment file."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "x.yml").write_text(FILE)
    for run in read_experiment(folder / "x.yml").runs:
        train_run(run, folder / "runs", lambda loop, progress: None)
    return folder


@pytest.fixture
def last(cli: Cli, trained: Path) -> Path:
    """The last of the four, in the current folder, to be damaged."""
    shutil.copytree(trained, ".", dirs_exist_ok=True)
    return RunDirectory.of(read_experiment(Path("x.yml")).runs[3], Path("runs")).path


@pytest.fixture
def everything(last: Path) -> Path:
    """A folder with three sound runs, one run of each kind of damage, and one whose pictures are gone."""
    source = shutil.copytree(last, "source")
    shutil.rmtree(last)
    damages = {
        **{f"u {k}": it[0] for k, it in UNREADABLE.items()},
        **{f"h {k}": v for k, v in HARMLESS.items()},
    }
    damages |= {f"f {k}": it[0] for k, it in FAILED.items()}
    for name, damage in damages.items():
        damage(shutil.copytree(source, last.parent / name.replace(" ", "-")))
    Path("others.yml").write_text(OTHERS)
    [other] = read_experiment(Path("others.yml")).runs
    directory = RunDirectory.of(other, Path("runs"))
    directory.write_config(other)
    directory.write_result({"validation_loss": 0.25})
    directory.append_metrics({"step": 1, "inputs": 64, "training_loss": 0.5})
    return Path("runs")


@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_run_that_cannot_be_read_is_a_row_with_its_reason(last: Path, kind: str) -> None:
    before = result_rows(records_in(Path("runs")))
    damage, reason = UNREADABLE[kind]
    damage(last)
    *sound, row = result_rows(records_in(Path("runs")))
    assert sound == [it for it in before if it["run"] != last.name]
    assert (row["run"], row["state"]) == (last.name, "unreadable")
    assert row["reason"].startswith(reason) or reason in row["reason"]
    assert row["validation_loss"] in [it["validation_loss"] for it in before]
    assert [record.run for record in records_in(last)] == [None]


@pytest.mark.parametrize("kind", FAILED)
def test_a_run_whose_result_is_damaged_has_failed(last: Path, kind: str) -> None:
    damage, reason = FAILED[kind]
    damage(last)
    rows = {row["run"]: row for row in result_rows(records_in(Path("runs")))}
    assert sorted(row["state"] for row in rows.values()) == ["done", "done", "done", "failed"]
    assert rows[last.name]["reason"].startswith("result.json: ")
    assert reason in rows[last.name]["reason"]


@pytest.mark.parametrize("kind", HARMLESS)
def test_what_is_no_part_of_a_table_does_no_harm_to_it(last: Path, kind: str) -> None:
    HARMLESS[kind](last)
    assert {record.state for record in records_in(Path("runs"))} == {"done"}


def test_a_folder_that_may_not_be_listed_may_be_a_run(last: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may list everything")
    last.chmod(0)
    try:
        [row] = [row for row in result_rows(records_in(Path("runs"))) if row["state"] != "done"]
    finally:
        last.chmod(0o700)
    assert (row["run"], row["state"]) == (last.name, "unreadable")
    assert "permission denied" in row["reason"]


COMMANDS = [
    ["table", "runs"],
    ["table", "runs", "--format", "md", "--where", "state=unreadable"],
    ["table", "runs", "--sort", "-validation_loss", "--columns", "run,seed,validation_loss,reason"],
    ["table", "runs", "--average", "seed", "--sort", "mixer"],
    ["table", "runs", "--against", "article", "--format", "csv"],
    ["table", "x.yml", "--average", "seed"],
    ["plot", "runs", "-o", "out.svg"],
    pytest.param(["plot", "runs", "-o", "out.svg", "--where", "state=unreadable"], marks=slow),
    ["report", "runs", "-o", "out.html"],
    pytest.param(["report", "runs", "-o", "out.html", "--where", "state=unreadable"], marks=slow),
    pytest.param(
        ["reconstruct", "runs", "digits:3", "--where", "mixer=cnn", "--where", "seed=0", "-o", "out.png"],
        marks=slow,
    ),
    ["reconstruct", "runs/mine/u-a-source-of-a-plugin", "digits:3", "-o", "out.png"],
    ["score", "runs", "digits", "--where", "run=u-a-later-key"],
    ["encode", "runs/mine/u-gone", "digits:3", "-o", "out.safetensors"],
    pytest.param(["export", "runs/mine/u-empty", "-o", "out"], marks=slow),
    pytest.param(["plot", "runs", "-o", "out.svg", "--pareto", "params"], marks=slow),
    pytest.param(["plot", "runs", "-o", "out.svg", "--pareto", "time"], marks=slow),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_works_beside_such_runs(cli: Cli, everything: Path, command: list[str]) -> None:
    status, out, err = cli(*command)
    assert (status, err.count("error")) == (0, 0), err
    assert out


def test_a_table_shows_all_of_them(cli: Cli, everything: Path) -> None:
    rows = list(csv.DictReader(cli("table", "runs", "--format", "csv")[1].splitlines()))
    assert len(rows) == 3 + len(UNREADABLE) + len(FAILED) + len(HARMLESS) + 1
    states = [row["state"] for row in rows]
    assert (states.count("unreadable"), states.count("failed")) == (len(UNREADABLE), len(FAILED))
    assert {row["state"] for row in rows if row["reason"]} == {"unreadable", "failed"}
    averaged = json.loads(cli("table", "runs", "--average", "seed", "--format", "json")[1])
    assert sum(row["state"] == "unreadable" for row in averaged) == len(UNREADABLE)
    assert all(row["reason"] for row in averaged if row["state"] == "unreadable")
    page = cli("report", "runs", "-o", "page.html") and Path("page.html").read_text()
    assert page.count(HINT) >= 3


def test_a_model_of_a_plugin_asks_for_it(cli: Cli, last: Path) -> None:
    _content("model.json", b'{"format": 1, "type": "mine", "arguments": {"image_shape": [1, 8, 8]}}')(last)
    status, out, err = cli("reconstruct", last, "digits:3", "-o", "out.png")
    assert (status, out) == (2, "")
    assert err == f"error: {last}/model.json: model 'mine' {HINT}\n"
