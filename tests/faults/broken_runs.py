"""Run directories whose files are broken at random, and what is asked of them.

dice ─▶ draw ─▶ {files, use} ─▶ read ─┬─▶ tables, a model, a loop ─▶ check_sound
                                      └─▶ a sentence ────────────────▶ check_refusal
"""

from __future__ import annotations

import csv
import json
from contextlib import suppress
from io import StringIO
from pathlib import Path
from random import Random
from typing import Any

import torch
from rich.console import Console
from ruamel.yaml import YAML

import mixcoder
from mixcoder.experiments.file.spec import read_experiment
from mixcoder.experiments.results.columns import columns_of, default_keys
from mixcoder.experiments.results.records import read_records, result_rows
from mixcoder.experiments.runs import training_run
from mixcoder.models import Autoencoder
from mixcoder.text.table import print_table, to_csv, to_json, to_markdown
from mixcoder.training.training_loop import TrainingLoop
from tests.faults.broken_bytes import broken
from tests.faults.broken_experiments import change_values

Case = dict[str, Any]
"""{files: what stands in them, one character a byte; use: what is asked of the directory}, as JSON has it."""

EXPERIMENT = """\
name: sound
data: {source: digits}
model: {type: mixer, patch_size: 4, hidden_channels: [4], latent_dim: 3}
training: {steps: 3, batch_size: 8, validations: 3, compile: off}
"""
RUNS = Path("runs")
TEXTS = ["config.yml", "result.json", "metrics.jsonl", "model.json", "failure.json"]
TENSORS = ["model.safetensors", "checkpoint/latest.safetensors", "checkpoint/best.safetensors"]
USES = {
    "table": [*TEXTS[:3], "failure.json"],
    "load": ["model.json", "model.safetensors"],
    "best": ["model.json", "checkpoint/best.safetensors"],
    "go on": ["checkpoint/latest.safetensors", "metrics.jsonl"],
}
"""What is asked, and the files that it reads."""
_FAILURE = b'{"reason": "killed by SIGKILL", "exit_status": -9}\n'
_LONGEST_SENTENCE = 1000

_sound: dict[str, bytes] = {}


def prepare() -> None:
    """Trains the sound run, in the current folder, with a checkpoint at its end but one step."""
    Path("sound.yml").write_text(EXPERIMENT)
    [run] = read_experiment(Path("sound.yml")).runs
    torch.set_num_threads(1)
    training_run.CHECKPOINT_SECONDS = 0.0
    directory = training_run.train_run(run, RUNS, lambda loop, progress: None)
    for name in [*TEXTS[:4], *TENSORS]:
        _sound[name] = (directory.path / name).read_bytes()
    _sound["failure.json"] = _FAILURE
    for use in USES:
        read({"files": {}, "use": use})


def draw(dice: Random) -> Case:
    """One or two files of those that a use reads, with one to three things done to them."""
    use = dice.choice([*USES, "table"])
    names = dice.sample(USES[use], k=dice.choice([1, 1, 2]))
    return {"files": {name: _drawn(name, dice).decode("latin-1") for name in names}, "use": use}


def _drawn(name: str, dice: Random) -> bytes:
    content = _sound[name]
    if dice.random() < 0.6:
        content = _other_tensors(content, dice) if name in TENSORS else _other_values(name, content, dice)
    else:
        for _ in range(dice.choice([1, 1, 2, 3])):
            content = broken(content, dice)
    return content


def _other_values(name: str, content: bytes, dice: Random) -> bytes:
    """A text with other values in it: the same kind of text still."""
    if name == "metrics.jsonl":
        lines = content.splitlines(keepends=True)
        at = dice.randrange(len(lines))
        lines[at] = _json(change_values(json.loads(lines[at]), dice)) + b"\n"
        return b"".join(lines)
    data = YAML(typ="safe", pure=True).load(content) if name == "config.yml" else json.loads(content)
    return _json(change_values(data, dice))


def _other_tensors(content: bytes, dice: Random) -> bytes:
    """A safetensors file with other values in its header, and in the state that a checkpoint has there."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    state = header.get("__metadata__", {}).get("state")
    if state and dice.random() < 0.5:
        header["__metadata__"]["state"] = json.dumps(change_values(json.loads(state), dice))
    else:
        header = change_values(header, dice)
    text = _json(header)
    return len(text).to_bytes(8, "little") + text + content[end:]


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def read(case: Case) -> Any:
    """What is asked of the run directory with the files of a case.

    Raises:
        MixcoderError: it cannot be given; anything else is a mistake of ours.
    """
    directory = next(RUNS.glob("sound/*"))
    for name in [*TEXTS, *TENSORS]:
        (directory / name).write_bytes(case["files"].get(name, "").encode("latin-1") or _sound[name])
    if "failure.json" in case["files"]:
        (directory / "result.json").unlink()
    match case["use"]:
        case "table":
            return _table()
        case "go on":
            return _trainer(directory)
    return mixcoder.load(directory, "best" if case["use"] == "best" else "final")


def _table() -> dict[str, str]:
    records = read_records(RUNS, [], RUNS)
    rows, values = result_rows(records), [record.values for record in records]
    columns = columns_of(default_keys(rows, values), values)
    screen = StringIO()
    print_table(rows, columns, Console(file=screen, width=120))
    texts = {"json": to_json(rows), "csv": to_csv(rows, columns), "md": to_markdown(rows, columns)}
    return {**texts, "text": screen.getvalue()}


def _trainer(directory: Path) -> TrainingLoop:
    [run] = read_experiment(Path("sound.yml")).runs
    loop = TrainingLoop(run.create_model(), run.create_source().load(), run.recipe)
    with suppress(StopIteration):
        loop.restore(directory / "checkpoint" / "latest.safetensors")
    return loop


def check_sound(case: Case, value: Any) -> None:
    """A table has one row and nothing invisible; a model makes images of images; a loop is in its run."""
    if isinstance(value, Autoencoder):
        images = torch.zeros(2, *value.image_shape)
        assert value(images).shape == images.shape
    elif isinstance(value, TrainingLoop):
        assert 0 <= value.step <= value.total_steps
    else:
        assert len(json.loads(value["json"])) == 1
        assert len(list(csv.reader(StringIO(value["csv"])))) == 2
        for text in value.values():
            assert all(line.isprintable() for line in text.split("\n")), text


def check_refusal(case: Case, message: str) -> None:
    """Sentences that name a file of the run directory."""
    assert "Traceback" not in message
    for line in message.split("\n"):
        assert line.isprintable(), line
        assert len(line) < _LONGEST_SENTENCE, line
    assert str(RUNS) in message, message
