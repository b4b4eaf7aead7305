"""All parameters of a model in one vector, and all gradients in another.

    vector    ├ weight 0 ┤0├ bias 0 ┤0├ weight 1 ┤ …     (N,), every tensor at the start of a cache line
    gradient  ├    …     ┤0├   …    ┤0├    …     ┤ …     (N,)

The model's parameters become views of the vector: an optimizer that treats all numbers alike takes one
step over one tensor, and a compiled training step gives its gradients in one piece.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from mixcoder.errors import ArgumentError

_ALIGNMENT = 16
"""Numbers of a cache line."""


class FlatParameters:
    """The parameters of `model`, which from now on live in `vector`.

    Attributes:
        names: of the parameters, as `model.named_parameters` has them.
        parameters: each one, a view of `vector`.
        vector: (N,) float32, all of them.

    Raises:
        ArgumentError: a parameter is not float32, or shares memory with another.
    """

    def __init__(self, model: nn.Module) -> None:
        named = trained_parameters(model)
        self.names = list(named)
        self.parameters = list(named.values())
        self.shapes = [parameter.shape for parameter in self.parameters]
        self.lengths = [-(-shape.numel() // _ALIGNMENT) * _ALIGNMENT for shape in self.shapes]
        device = self.parameters[0].device if self.parameters else torch.device("cpu")
        self.vector = nn.Parameter(torch.zeros(sum(self.lengths), dtype=torch.float32, device=device))
        for parameter, value in zip(self.parameters, self.split(self.vector.detach()), strict=True):
            value.copy_(parameter.detach())
            parameter.data = value

    def set_gradients(self, gradients: Tensor) -> None:
        """Makes a vector (N,) the gradients of `vector`, and its parts those of `parameters`."""
        self.vector.grad = gradients
        for parameter, gradient in zip(self.parameters, self.split(gradients), strict=True):
            parameter.grad = gradient

    def drop_gradients(self) -> None:
        """Gives the memory of the gradients back."""
        for parameter in (self.vector, *self.parameters):
            parameter.grad = None

    def split(self, vector: Tensor) -> list[Tensor]:
        """Views of a vector (N,), one for each parameter, in its shape."""
        parts = torch.split(vector, self.lengths)
        return [part[: shape.numel()].view(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def join(self, tensors: Sequence[Tensor]) -> Tensor:
        """The vector (N,) of one tensor for each parameter: `split` the other way."""
        flat = (tensor.reshape(-1) for tensor in tensors)
        return torch.cat(
            [
                part
                if len(part) == length
                else pad(part, (0, length - len(part)))  # a pad of none copies too
                for part, length in zip(flat, self.lengths, strict=True)
            ]
        )


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Returns the parameters that training changes, by name: all but the frozen ones.

    Raises:
        ArgumentError: one is not float32, shares memory with another, or has a hook that only
            `backward` would call.
    """
    named = {name: it for name, it in model.named_parameters() if it.requires_grad}
    for name, parameter in named.items():
        if parameter.dtype != torch.float32:
            wanted = "training takes torch.float32, such as of model.float()"
            raise ArgumentError("", f"parameter {name} is {parameter.dtype}; {wanted}")
        if parameter._post_accumulate_grad_hooks:
            raise ArgumentError(
                "", f"parameter {name} has a hook after its gradient, which training here skips"
            )
    _check_apart(named)
    return named


def give_own_memory(model: nn.Module) -> None:
    """Moves trained parameters out of the vector, so that a part of the model can be stored without the rest.

    What names share one parameter share it still.
    """
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.untyped_storage().nbytes() != parameter.nbytes:
            parameter.data = parameter.detach().clone()


def _check_apart(named: Mapping[str, nn.Parameter]) -> None:
    """Refuses parameters that share elements: in the vector, each would go its own way.

    Raises:
        ArgumentError: names them and says how to tie parameters.
    """
    places = sorted((*_place(it), name) for name, it in named.items() if it.numel())
    for (storage, _, end, name), (next_storage, start, _, other) in pairwise(places):
        if storage == next_storage and start < end:
            raise ArgumentError(
                "",
                f"parameters {name} and {other} lie in the same memory; make them one nn.Parameter, "
                "or give each its own with .clone()",
            )


def _place(parameter: Tensor) -> tuple[int, int, int]:
    """A parameter's storage, and where in it the parameter begins and ends."""
    start = parameter.storage_offset()
    steps = zip(parameter.shape, parameter.stride(), strict=True)
    end = start + 1 + sum((size - 1) * step for size, step in steps)
    return parameter.untyped_storage()._cdata, int(start), int(end)
