"""All parameters of a model in one vector, and all gradients in another.

    vector    ├ weight 0 ┤0├ bias 0 ┤0├ weight 1 ┤ …     (N,), every tensor at the start of a cache line
    gradient  ├    …     ┤0├   …    ┤0├    …     ┤ …     (N,)

The model's parameters become views of the vector: an elementwise optimizer takes one step over one tensor,
and a compiled training step returns its gradients in one piece.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from mixcoder.backends.matrices import matrix_shapes
from mixcoder.errors import ArgumentError
from mixcoder.torch_private import has_hooks_after_gradient, storage_id

_ALIGNMENT = 16
"""Elements of a cache line."""


class FlatParameters:
    """The trained parameters of `model`, which from now on live in `vector`.

    Attributes:
        names: of the parameters, as `model.named_parameters` has them.
        parameters: each one, a view of `vector`.
        matrices: shapes of those that are matrices, by parameter.
        vector: (N,) float32, all of them.

    Raises:
        ArgumentError: a parameter is not float32, or shares memory with another.
    """

    def __init__(self, model: nn.Module) -> None:
        named = trained_parameters(model)
        self.names = list(named)
        self.parameters = list(named.values())
        shapes = matrix_shapes(model)
        self.matrices = {p: shapes[p] for p in self.parameters if p in shapes}
        self.shapes = [parameter.shape for parameter in self.parameters]
        self.lengths = [-(-shape.numel() // _ALIGNMENT) * _ALIGNMENT for shape in self.shapes]
        device = self.parameters[0].device if self.parameters else torch.device("cpu")
        self.vector = nn.Parameter(torch.zeros(sum(self.lengths), dtype=torch.float32, device=device))
        for parameter, value in zip(self.parameters, self.split(self.vector.detach()), strict=True):
            value.copy_(parameter.detach())
            parameter.data = value

    def set_gradients(self, gradients: Tensor) -> None:
        """Makes a vector (N,) the gradient of `vector`, and its slices those of `parameters`."""
        self.vector.grad = gradients
        for parameter, gradient in zip(self.parameters, self.split(gradients), strict=True):
            parameter.grad = gradient

    def drop_gradients(self) -> None:
        """Frees the memory of the gradients."""
        for parameter in (self.vector, *self.parameters):
            parameter.grad = None

    def split(self, vector: Tensor) -> list[Tensor]:
        """Returns views of a vector (N,), one for each parameter, in its shape."""
        slices = torch.split(vector, self.lengths)
        return [s[: shape.numel()].view(shape) for s, shape in zip(slices, self.shapes, strict=True)]

    def join(self, tensors: Sequence[Tensor]) -> Tensor:
        """Returns the vector (N,) of one tensor for each parameter: the inverse of `split`."""
        flat = [tensor.reshape(-1) for tensor in tensors]
        return torch.cat([_padded(t, length) for t, length in zip(flat, self.lengths, strict=True)])


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Returns the parameters that training changes, by name: all but the frozen ones.

    Raises:
        ArgumentError: one is not float32, shares memory with another, or has a hook that only
            `backward` would call.
    """
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    for name, parameter in named.items():
        if parameter.dtype != torch.float32:
            wanted = "training takes torch.float32, such as of model.float()"
            raise ArgumentError("", f"parameter {name} is {parameter.dtype}; {wanted}")
        if has_hooks_after_gradient(parameter):
            raise ArgumentError(
                "", f"parameter {name} has a hook after its gradient, which training here skips"
            )
    _check_apart(named)
    return named


def give_own_memory(model: nn.Module) -> None:
    """Moves trained parameters out of the vector, so that a part of the model can be stored without the rest.

    A parameter of several names stays one.
    """
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.untyped_storage().nbytes() != parameter.nbytes:
            parameter.data = parameter.detach().clone()


def _check_apart(named: Mapping[str, nn.Parameter]) -> None:
    """Checks that no parameters share elements: in the vector, each would have its own.

    Raises:
        ArgumentError: names them and says how to tie parameters.
    """
    places = sorted((*_place(parameter), name) for name, parameter in named.items() if parameter.numel())
    for (storage, _, end, name), (next_storage, start, _, other) in pairwise(places):
        if storage == next_storage and start < end:
            raise ArgumentError(
                "",
                f"parameters {name} and {other} lie in the same memory; make them one nn.Parameter, "
                "or give each its own with .clone()",
            )


def _place(parameter: Tensor) -> tuple[int, int, int]:
    """Returns a parameter's storage, and the places in it where the parameter begins and ends."""
    start = parameter.storage_offset()
    steps = zip(parameter.shape, parameter.stride(), strict=True)
    end = start + 1 + sum((size - 1) * step for size, step in steps)
    return storage_id(parameter.untyped_storage()), int(start), int(end)


def _padded(vector: Tensor, length: int) -> Tensor:
    return vector if len(vector) == length else pad(vector, (0, length - len(vector)))  # pad of 0 copies too
