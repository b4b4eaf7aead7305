"""Parameters that are matrices: by their shape and name, or as their module says."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mixcoder.backends.matrices import matrix_shapes
from mixcoder.errors import ArgumentError


class Module(nn.Module):
    """A module of one parameter `name`, which says what it is optimized as."""

    def __init__(self, name: str, shape: tuple[int, ...], **kinds: str) -> None:
        super().__init__()
        self.register_parameter(name, nn.Parameter(torch.zeros(shape)))
        if kinds:
            self.optimized_as = kinds


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (Module("weight", (3, 5)), (1, 3, 5)),
        (Module("weight", (3, 5, 2, 2)), (1, 3, 20)),
        (Module("weight", (7, 1, 5)), (1, 7, 5)),
        (Module("weight", (7,)), None),
        (Module("weight", ()), None),
        (Module("weight", (0, 3)), None),
        (Module("scale", (7, 1, 1)), None),
        (Module("scale", (1, 7)), None),
        (Module("bias", (3, 5)), None),
        (Module("bias_of_rows", (3, 5)), None),
        (Module("factors", (6, 4, 4), factors="matrices"), (6, 4, 4)),
        (Module("factors", (2, 3, 4, 5), factors="matrices"), (6, 4, 5)),
        (Module("factors", (4, 5), factors="matrices"), (1, 4, 5)),
        (Module("bias", (3, 5), bias="matrix"), (1, 3, 5)),
        (Module("weight", (3, 5), weight="vector"), None),
    ],
)
def test_what_is_a_matrix(module: Module, shape: tuple[int, int, int] | None) -> None:
    assert list(matrix_shapes(nn.Sequential(nn.Identity(), module)).values()) == ([shape] if shape else [])


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        ({"weights": "matrix"}, "optimized_as of 0 names weights, which is no parameter of its own"),
        ({"weight": "matrixes"}, "'matrixes' for weight; it takes matrix, matrices, vector"),
        ({"weight": "matrices"}, "makes weight a matrices, but it has fewer than two axes"),
    ],
)
def test_mistakes_of_a_module_are_told(kinds: dict[str, str], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        matrix_shapes(nn.Sequential(Module("weight", (3,), **kinds)))
