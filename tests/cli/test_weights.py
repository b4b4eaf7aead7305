"""A run that over-fits says so, and every command takes the weights of its best moment."""

from __future__ import annotations

import csv
import json
from io import StringIO
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import mixcoder
from mixcoder.errors import ArgumentError
from mixcoder.experiments.runs.model_files import hash_weights
from tests.conftest import Cli

FILE = """\
name: mine
data: {source: digits, search_holdout: 1_480}  # twenty images are left to train on
model: {type: mixer, patch_size: 4, hidden_channels: [32, 32], latent_dim: 32, mixer_at: [1, 2], mixer: mlp}
training:
  {learning_rate: 0.003, schedule: linear, inputs: 8_000, batch_size: 10, validations: 40, compile: "off"}
"""


@pytest.fixture
def folder(cli: Cli, tmp_path: Path) -> Path:
    (tmp_path / "x.yml").write_text(FILE)
    status, out, err = cli("run", "x.yml", "--format", "csv")
    assert status == 0, err
    [folder] = (tmp_path / "runs" / "mine").iterdir()
    result = json.loads((folder / "result.json").read_text())
    assert result["best_validation_loss"] < 0.98 * result["validation_loss"]  # else nothing is tested
    assert f"after {result['best_inputs']:,} of 8,000 inputs, and then the run over-fits" in err
    [row] = csv.DictReader(StringIO(out))
    assert float(row["best_validation_loss"]) == pytest.approx(result["best_validation_loss"])
    assert int(row["best_inputs"]) == result["best_inputs"]
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = {row["inputs"]: row["validation_loss"] for row in rows if "validation_loss" in row}
    assert losses[result["best_inputs"]] == min(losses.values()) == result["best_validation_loss"]
    return folder


def test_every_command_takes_the_best_weights(cli: Cli, folder: Path) -> None:
    best = mixcoder.load(folder, weights="best")
    codes = mixcoder.encode(best, mixcoder.load_data("digits", search_holdout=1_480))  # as the run has them
    assert cli("encode", "runs/mine", "digits", "--weights", "best", "-o", "c.safetensors")[0] == 0
    assert torch.equal(load_file("c.safetensors")["latents"], codes.latents)
    assert cli("decode", "runs/mine", "c.safetensors", "--weights", "best", "-o", "pictures")[0] == 0
    status, _, err = cli("decode", "runs/mine", "c.safetensors", "-o", "others")
    assert status == 2
    assert "made by a model with other weights" in err
    errors = {}
    for weights in ("final", "best"):
        status, out, _ = cli("score", "runs/mine", "digits", "--weights", weights)
        assert status == 0
        rows = list(csv.DictReader(StringIO(out)))
        errors[weights] = sum(float(row["mse"]) for row in rows) / len(rows)
    assert errors["best"] < errors["final"]
    for command in (("walk", "digits:0", "digits:1"), ("reconstruct", "digits:0")):
        pictures = []
        for weights in ("final", "best"):
            arguments = (command[0], "runs/mine", *command[1:], "--weights", weights, "-o", "x.png")
            assert cli(*arguments)[0] == 0, arguments
            pictures.append(Path("x.png").read_bytes())
        assert pictures[0] != pictures[1]


def test_so_do_functions_and_onnx_files(folder: Path) -> None:
    best = mixcoder.load(folder, weights="best")
    own = mixcoder.load_data("digits", search_holdout=1_480).validation.images  # as the run has them
    codes = mixcoder.encode(folder, "digits:0", "digits:1", weights="best")
    assert torch.equal(codes.latents, mixcoder.encode(best, own[:2]).latents)
    images = mixcoder.decode(folder, codes, weights="best")
    assert torch.equal(images, mixcoder.decode(best, codes))
    [[score], [expected]] = mixcoder.score(folder, "digits:0", weights="best"), mixcoder.score(best, own[0])
    assert score.mse == expected.mse
    walks = [
        mixcoder.walk(folder, "digits:0", "digits:1", weights="best"), mixcoder.walk(best, own[0], own[1]),
    ]  # fmt: skip
    assert torch.equal(*walks)
    with pytest.raises(ArgumentError, match="weights: are those of a run; a model has its own alone"):
        mixcoder.encode(best, own, weights="best")
    onnx = pytest.importorskip("onnx", reason="needs the onnx extra: pip install 'mixcoder[onnx]'")
    encoder, _ = mixcoder.export_onnx(folder, folder.parent / "onnx", weights="best")
    metadata = {entry.key: entry.value for entry in onnx.load(encoder).metadata_props}
    assert json.loads(metadata["weights_sha256"]) == hash_weights(best)


def test_a_run_that_does_not_over_fit_says_nothing(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "x.yml").write_text(FILE.replace(", search_holdout: 1_480", ""))
    status, out, err = cli("run", "x.yml", "--format", "csv")
    assert status == 0
    assert "lowest" not in err
    assert "best_validation_loss" not in out
