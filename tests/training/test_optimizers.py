"""Optimizers by name, and one of a plugin: none of our files knows it."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from mixcoder.backends.parameters import FlatParameters
from mixcoder.data import ImageData
from mixcoder.errors import ArgumentError
from mixcoder.training.optimizers import OPTIMIZERS, create_optimizers, has_weight_decay, init_optimizer_state
from mixcoder.training.recipe import Recipe
from tests.conftest import Cli
from tests.training.test_training_loop import loop, weights

PLUGIN = """
import mixcoder, torch

@mixcoder.register_optimizer("sign")
def create_sign(parameters, learning_rate, weight_decay=0.0):
    return [Sign([parameters.vector], {"lr": learning_rate, "weight_decay": weight_decay})]

class Sign(torch.optim.Optimizer):
    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                momentum = state.setdefault("momentum", torch.zeros_like(parameter))
                momentum.lerp_(parameter.grad, 0.1)
                parameter.sub_(momentum.sign(), alpha=group["lr"])
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
"""
FILE = """
name: mine
data: {source: digits}
model: {type: mixer, patch_size: 4, hidden_channels: [9], latent_dim: 3, mixer_at: [1]}
training: {optimizer: sign, weight_decay: 0.1, inputs: 640}
"""


def test_a_plugin_s_optimizer_is_a_name_like_others(cli: Cli) -> None:
    Path("sign.py").write_text(PLUGIN)
    Path("x.yml").write_text(FILE)
    assert cli("--plugin", "sign.py", "run", "x.yml")[0] == 0
    result = json.loads(next(Path("runs").rglob("result.json")).read_text())
    assert 0 < result["validation_loss"] < 1
    status, out, _ = cli("--plugin", "sign.py", "schema")
    assert status == 0
    choices = json.loads(out)["properties"]["training"]["properties"]["optimizer"]["anyOf"][0]["enum"]
    assert choices == ["adamw", "adam", "sgd", "muon", "sign"]
    Path("x.yml").write_text(FILE.replace("optimizer: sign", "optimizer: sing"))
    status, _, err = cli("--plugin", "sign.py", "plan", "x.yml")
    assert status == 2
    assert "training.optimizer: unknown optimizer 'sing'; did you mean 'sign'?" in err


def test_a_plugin_s_optimizer_goes_on_to_the_bit(tmp_path: Path, tiny_data: ImageData) -> None:
    exec(compile(PLUGIN, "sign.py", "exec"), {"__name__": "sign"})
    whole, first, second = (loop(tiny_data, steps=40, optimizer="sign") for _ in range(3))
    list(whole.run())
    for row in first.run():
        if row.step == 20:
            first.save(tmp_path / "half")
            break
    second.restore(tmp_path / "half")
    list(second.run())
    assert torch.equal(weights(second.model), weights(whole.model))


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_their_state_is_made_and_the_parameters_stay(name: str) -> None:
    parameters = FlatParameters(torch.nn.Linear(4, 3))
    before = parameters.vector.detach().clone()
    settings = {"weight_decay": 0.5} if has_weight_decay(name) else {}
    optimizers = create_optimizers(parameters, name, 0.1, **settings)
    init_optimizer_state(optimizers)
    assert torch.equal(parameters.vector.detach(), before)
    assert all(optimizer.state for optimizer in optimizers)
    decay = settings.get("weight_decay", 0.0)
    assert all(group["weight_decay"] == decay for it in optimizers for group in it.param_groups)


def test_an_unknown_name_is_a_sentence() -> None:
    with pytest.raises(ArgumentError, match="unknown optimizer 'admw'; did you mean 'adamw'"):
        create_optimizers(FlatParameters(torch.nn.Linear(1, 1)), "admw", 0.1)


def test_a_function_that_names_a_rate_for_vectors_is_given_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def create_split(
        parameters: FlatParameters, learning_rate: float, vector_learning_rate: float = 0.5
    ) -> list[torch.optim.Optimizer]:
        given.append(vector_learning_rate)
        return []

    given: list[float] = []
    monkeypatch.setitem(OPTIMIZERS._entries, "split", create_split)
    parameters = FlatParameters(torch.nn.Linear(1, 1))
    for settings in ({}, {"vector_learning_rate": 0.25}):
        Recipe(steps=1, optimizer="split", **settings).create_optimizers(parameters)  # type: ignore[arg-type]
    assert given == [0.5, 0.25]


def test_adam_is_torchs_and_has_no_decay(tiny_data: ImageData) -> None:
    trained = loop(
        tiny_data, optimizer="adam", learning_rate=0.01, schedule="constant", steps=8, compile="off"
    )
    model = copy.deepcopy(trained.model)
    adam = torch.optim.Adam(model.parameters(), lr=0.01)
    for step in range(8):
        images = trained._batches[step] / 255
        adam.zero_grad()
        torch.nn.functional.mse_loss(model(images), images).backward()  # type: ignore[no-untyped-call]
        adam.step()
    list(trained.run())
    torch.testing.assert_close(weights(trained.model), weights(model), rtol=1e-4, atol=1e-6)
    with pytest.raises(ValidationError, match="is not for adam; adamw has one"):
        Recipe(steps=1, optimizer="adam", weight_decay=0.1)
    assert Recipe(steps=1, optimizer="adam", weight_decay=0.0).weight_decay == 0
