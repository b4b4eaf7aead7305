"""Layers of plugins in all the ways that torch allows: none is left out, none counted twice."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from mixcoder.models import Autoencoder
from mixcoder.models.summary import count_parameters, layer_rows


class Scale(nn.Module):
    """A layer of a user's own, without children."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(4))

    def forward(self, rows: Tensor) -> Tensor:
        return rows * self.factor


class Block(nn.Module):
    """A parameter beside a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.gain = nn.Parameter(torch.ones(4, 1))

    def forward(self, rows: Tensor) -> Tensor:
        moved: Tensor = self.inner(rows)
        return moved * self.gain[:, 0]


class Functional(nn.Module):
    """A layer whose weights a function takes."""

    def __init__(self) -> None:
        super().__init__()
        self.held = nn.Linear(4, 4)

    def forward(self, rows: Tensor) -> Tensor:
        return functional.linear(rows, self.held.weight, self.held.bias)


class Reused(nn.Module):
    """A layer that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, rows: Tensor) -> Tensor:
        twice: Tensor = self.layer(self.layer(rows))
        return twice


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, rows: Tensor) -> Tensor:
        both: Tensor = self.second(self.first(rows))
        return both


class Recurrent(nn.Module):
    """A layer with several outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.LSTM(4, 4, batch_first=True)

    def forward(self, rows: Tensor) -> Tensor:
        output: Tensor = self.cells(rows[:, None])[0]
        return output[:, 0]


class Attention(nn.Module):
    """Parameters beside a child that is never called as a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, rows: Tensor) -> Tensor:
        output: Tensor = self.heads(rows[:, None], rows[:, None], rows[:, None])[0]
        return output[:, 0]


class Unused(nn.Module):
    """A layer that nothing flows through."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(9, 9)

    def forward(self, rows: Tensor) -> Tensor:
        return rows


class OfMiddle(Autoencoder):
    """An autoencoder of 2 x 2 pixels around a layer."""

    image_shape = (1, 2, 2)
    latent_shape = (4,)

    def __init__(self, middle: nn.Module) -> None:
        super().__init__()
        self.middle = middle
        self.shift = nn.Parameter(torch.zeros(4))

    def _encode(self, images: Tensor) -> Tensor:
        latents: Tensor = self.middle(images.flatten(1))
        return latents

    def _decode(self, latents: Tensor) -> Tensor:
        return (latents + self.shift).reshape(-1, 1, 2, 2)


def frozen() -> nn.Module:
    return nn.Linear(4, 4).requires_grad_(False)


MIDDLES: list[Callable[[], nn.Module]] = [
    *(Scale, Block, Functional, Reused, Tied, Recurrent, Attention, Unused, frozen),
    lambda: weight_norm(nn.Linear(4, 4)),
    lambda: nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(), nn.Identity(), nn.Linear(4, 4).double().float()),
    lambda: nn.TransformerEncoderLayer(4, 2, 8, batch_first=True),
    nn.Identity,
]


@pytest.mark.parametrize("build", MIDDLES)
@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_rows_add_up_to_the_parameters(build: Callable[[], nn.Module], device: str) -> None:
    with torch.device(device):
        model = OfMiddle(build())
    modes = [module.training for module in model.modules()]
    rows = layer_rows(model)
    assert sum(row["params"] for row in rows) == count_parameters(model)
    state = model.state_dict()
    named = [row["layer"] for row in rows]
    for name, parameter in model.named_parameters():
        owner = name.rpartition(".")[0]
        assert name in named or owner in named, name
        assert parameter.numel() == state[name].numel()
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_hooks for module in model.modules())


def test_what_is_called_twice_or_held_directly_is_told() -> None:
    shift = {"layer": "shift", "module": "Parameter(4)", "output_shape": None, "params": 4}
    linear = "Linear(in_features=4, out_features=4, bias=True)"
    rows = layer_rows(OfMiddle(Reused()))
    assert [(row["layer"], row["params"]) for row in rows] == [
        ("middle.layer", 20),
        ("middle.layer", 0),
        ("shift", 4),
    ]
    assert layer_rows(OfMiddle(Functional())) == [
        shift,
        {"layer": "middle.held", "module": linear, "output_shape": None, "params": 20},
    ]
    assert [row["layer"] for row in layer_rows(OfMiddle(Block()))] == ["middle.inner", "shift", "middle.gain"]
    assert [row["output_shape"] for row in layer_rows(OfMiddle(Recurrent()))] == [[1, 4], None]


def test_a_model_in_double_precision() -> None:
    assert len(layer_rows(OfMiddle(nn.Linear(4, 4)).double())) == 2
