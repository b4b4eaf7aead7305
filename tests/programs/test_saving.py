"""Models that a program trained in a loop of its own, as files that all commands know."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import mixcoder
from mixcoder.errors import ArgumentError, WriteError
from mixcoder.models import Autoencoder
from tests.conftest import Cli
from tests.programs.test_run_record import Changed, mixer
from tests.training.test_training_loop import weights


def trained_by_hand() -> Autoencoder:
    """A few steps of a loop that is not Mixcoder's."""
    model = mixer()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    images = mixcoder.load_data("digits").validation.images[:64] / 255
    for _ in range(5):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(images), images)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return model


def test_a_saved_model_is_loaded_and_used_by_every_command(tmp_path: Path, cli: Cli) -> None:
    model = trained_by_hand()
    mixcoder.save(model, tmp_path / "mine")
    assert torch.equal(weights(mixcoder.load(tmp_path / "mine")), weights(model))
    assert cli("encode", "mine", "digits", "-o", "codes.safetensors")[0] == 0
    assert cli("score", "mine", "digits:3")[0] == 0
    assert cli("models", "show", "mixer")[0] == 0


def test_with_data_it_is_a_row_of_a_table(tmp_path: Path, cli: Cli) -> None:
    model, data = trained_by_hand(), mixcoder.load_data("digits")
    mixcoder.save(model, tmp_path / "saved" / "mine", data)
    with torch.no_grad():
        images = data.validation.images / 255
        loss = (model(images) - images).square().mean().item()
    status, table, err = cli("table", "saved", "--format", "csv", "--columns", "validation_loss,params")
    assert status == 0, err
    found, params = table.splitlines()[-1].split(",")
    assert float(found) == pytest.approx(loss, rel=1e-5)
    assert int(params) == sum(value.numel() for value in model.parameters())
    assert model.training


def test_what_cannot_be_saved_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="was not made by create_model"):
        mixcoder.save(Changed(), tmp_path / "x")
    with pytest.raises(ArgumentError, match=r"the model takes \(1, 8, 8\), images has \(1, 4, 4\)"):
        mixcoder.save(mixer(), tmp_path / "x", torch.zeros(4, 4, 4, dtype=torch.uint8))
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="cannot write"):
        mixcoder.save(mixer(), tmp_path / "file" / "x")
    assert not (tmp_path / "x").exists()
