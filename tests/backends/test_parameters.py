"""All parameters in one vector: the same model, seen as one tensor."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mixcoder.backends.parameters import FlatParameters
from mixcoder.errors import ArgumentError


def test_parameters_are_views_of_the_vector() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 2))
    x = torch.randn(4, 5)
    before = model(x)
    flat = FlatParameters(model)
    assert torch.equal(model(x), before)
    assert flat.vector.numel() == 16 + 16 + 16 + 16
    with torch.no_grad():
        flat.vector.zero_()
    assert torch.equal(model(x), torch.zeros(4, 2))


def test_join_and_split_are_inverse_and_keep_the_padding_zero() -> None:
    flat = FlatParameters(nn.Linear(5, 3))
    tensors = [torch.randn(3, 5), torch.randn(3)]
    vector = flat.join(tensors)
    assert all(torch.equal(a, b) for a, b in zip(flat.split(vector), tensors, strict=True))
    assert vector[15] == 0
    assert not vector[19:].any()


def test_gradients_reach_vector_and_parameters() -> None:
    model = nn.Linear(2, 1)
    flat = FlatParameters(model)
    flat.set_gradients(flat.join([torch.tensor([[1.0, 2.0]]), torch.tensor([3.0])]))
    assert model.weight.grad is not None
    assert model.weight.grad.tolist() == [[1.0, 2.0]]
    assert flat.vector.grad is not None
    assert flat.vector.grad.sum() == 6


def test_frozen_parameters_stay_out() -> None:
    model = nn.Linear(2, 1)
    model.weight.requires_grad_(False)
    assert FlatParameters(model).names == ["bias"]


def test_other_precisions_are_refused() -> None:
    with pytest.raises(ArgumentError, match=r"parameter weight is torch\.float64; training takes"):
        FlatParameters(nn.Linear(2, 1).double())
