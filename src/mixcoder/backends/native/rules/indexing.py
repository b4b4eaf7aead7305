"""Rules of indexing: parts by slices and places, and rows by constant indices."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mixcoder.backends.native import graph
from mixcoder.backends.native.graph import Node
from mixcoder.backends.native.rules.matrix_products import product
from mixcoder.backends.native.rules.rule_table import check, refuse, rule, settings_of
from mixcoder.backends.native.rules.shapes import axis_of, select, unsqueeze, with_step

_EMBEDDING = {"max_norm": None, "norm_type": 2.0, "scale_grad_by_freq": False, "sparse": False}
"""Settings of torch's function and their defaults."""
_MOST_ROWS_TAKEN = 2**22
"""Elements of the constant matrix of ones and zeros by which rows are taken (16 MiB)."""


@rule("Tensor.__getitem__")
def getitem(x: Node, index: Any) -> Node:
    """Returns a part of x, by numbers, slices, None, an ellipsis, and one constant tensor of indices."""
    entries = list(index) if isinstance(index, tuple) else [index]
    axis, taken = 0, 0
    for position, entry in enumerate(entries):
        if entry is None:
            x = unsqueeze(x, axis)
            axis += 1
        elif entry is Ellipsis:
            axis = x.rank - sum(later is not None for later in entries[position + 1 :])
        elif isinstance(entry, slice):
            x = _sliced(x, axis, entry)
            axis += 1
        elif isinstance(entry, int) and not isinstance(entry, bool):
            x = select(x, axis, entry)
        else:
            taken += 1
            check(taken == 1, "an index of several tensors")
            x, rank = _taken(x, axis, entry)
            axis += rank
    return x


def _sliced(x: Node, axis: int, entry: slice) -> Node:
    for number in (entry.start, entry.stop, entry.step):
        check(number is None or isinstance(number, int), "a slice by tensors")
    check(entry.step is None or entry.step > 0, "a slice with a negative step")
    start, stop, step = entry.indices(x.shape[axis])
    check(stop > start, "a slice without elements")
    return with_step(x, axis, start, stop, step)


def _taken(x: Node, axis: int, entry: Any) -> tuple[Node, int]:
    """Returns x with the elements of an axis that a constant tensor or list states, and that one's rank."""
    check(isinstance(entry, list | Tensor), f"an index of type {type(entry).__name__}")
    index = torch.as_tensor(entry)
    if index.dtype == torch.bool:
        check(index.ndim == 1 and len(index) == x.shape[axis], "a mask over several axes")
        index = index.nonzero().flatten()
    check(not index.is_floating_point(), f"an index of {index.dtype}")
    rows = _rows(x, axis, index.flatten())
    return graph.reshape(rows, (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])), index.ndim


def _rows(x: Node, axis: int, index: Tensor) -> Node:
    """Returns the elements of an axis at constant places, as the product with a matrix of ones and zeros."""
    length = x.shape[axis]
    check(len(index) > 0 and len(index) * length <= _MOST_ROWS_TAKEN, f"{len(index):,} places of {length:,}")
    places = torch.where(index < 0, index + length, index)
    if bool((places[1:] - places[:-1] == 1).all()):
        return graph.part(x, axis, int(places[0]), int(places[-1]) + 1)
    matrix = torch.zeros(len(index), length)
    matrix[torch.arange(len(index)), places] = 1
    labels = [chr(ord("c") + i) for i in range(x.rank)]
    made = [*labels[:axis], "a", *labels[axis + 1 :]]
    labels[axis] = "b"
    return product(x, graph.constant(matrix), f"{''.join(labels)},ab->{''.join(made)}")


@rule("index_select")
def index_select(x: Node, dim: int, index: Tensor) -> Node:
    """Returns the elements of an axis at constant places."""
    return _taken(x, axis_of(x.rank, dim), index)[0]


@rule("embedding")
def embedding(input: Tensor, weight: Node, padding_idx: int | None = None, *given: Any, **named: Any) -> Node:
    """Returns rows of a weight at constant places."""
    settings = settings_of(_EMBEDDING, given, named)
    check(settings == _EMBEDDING and padding_idx is None, "embedding with more than an index and a weight")
    return _taken(weight, 0, input)[0]


refuse(
    "an index for each element; x[index] takes whole rows",
    *("take_along_dim", "gather", "take", "scatter", "Tensor.__setitem__"),
)
refuse(
    "forward would depend on the elements of a tensor",
    *("Tensor.__bool__", "Tensor.__float__", "Tensor.__int__", "Tensor.__index__", "item", "tolist", "numpy"),
    *("Tensor.__array__", "Tensor.__contains__", "any", "all", "equal", "allclose", "isnan", "isfinite"),
    "Tensor.__format__",
    *(
        "gt",
        "ge",
        "lt",
        "le",
        "eq",
        "ne",
        "argmax",
        "argmin",
        "nonzero",
        "sort",
        "topk",
        "median",
        "Tensor.__format__",
    ),
)
refuse("it draws random numbers", "rand_like", "randn_like", "bernoulli", "multinomial", "rrelu")
refuse("mixcoder.pull_back is the gradient within a forward", "autograd.grad", "Tensor.backward")
