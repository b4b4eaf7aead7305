"""The optimizers by name; their learning rate and their state."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import torch
from torch import nn

from mixcoder.backends.matrices import matrix_shapes
from mixcoder.backends.muon import Muon
from mixcoder.backends.newton_schulz import count_orthogonalizing_madds
from mixcoder.backends.parameters import FlatParameters
from mixcoder.backends.vector_adamw import LeanAdamW, VectorAdamW
from mixcoder.backends.vector_sgd import VectorSGD
from mixcoder.registry.registry import Registry

OPTIMIZERS: Registry[Callable[..., Sequence[torch.optim.Optimizer]]] = Registry("optimizer", "optimizer")
"""Each is called as `create(parameters, learning_rate, **settings)`; `settings` holds `weight_decay` and
`vector_learning_rate` where a recipe states them, the second only if the function names it. It returns the
optimizers that together train all parameters: of `parameters.vector`, all of them as one tensor, where each
element is updated by itself, or of the tensors in `parameters.parameters`."""
OptimizerName = Annotated[str, OPTIMIZERS]
register_optimizer = OPTIMIZERS.register
RATE_FACTOR = "rate_factor"
"""The key of a group of parameters, by what its learning rate differs from the recipe's."""


def create_optimizers(
    parameters: FlatParameters, name: str, learning_rate: float, **settings: float
) -> list[torch.optim.Optimizer]:
    """Returns the optimizers that together train all `parameters`; mostly one, which sees them as one vector.

    Args:
        parameters: to be trained.
        name: that the optimizer is registered under.
        learning_rate: of the first step.
        settings: `weight_decay` and `vector_learning_rate`, in place of the optimizer's own.

    Raises:
        ArgumentError: the name is unknown.
    """
    return list(OPTIMIZERS[name](parameters, learning_rate, **settings))


def count_update_madds(name: str, model: nn.Module) -> int:
    """Returns the multiply-adds of an optimizer's step, as far as they are more than some for a parameter."""
    if name != "muon":
        return 0
    return sum(map(count_orthogonalizing_madds, matrix_shapes(model).values()))


def has_vector_learning_rate(name: str) -> bool:
    """Returns whether an optimizer takes a learning rate of its own for what is no matrix."""
    return "vector_learning_rate" in inspect.signature(OPTIMIZERS[name]).parameters


def has_weight_decay(name: str) -> bool:
    """Returns whether an optimizer takes a weight decay."""
    parameters = inspect.signature(OPTIMIZERS[name]).parameters.values()
    return any(each.name == "weight_decay" or each.kind is each.VAR_KEYWORD for each in parameters)


@register_optimizer("adamw")
def create_adamw(
    parameters: FlatParameters, learning_rate: float, **settings: Any
) -> Sequence[torch.optim.Optimizer]:
    """Returns torch's AdamW."""
    return [VectorAdamW(parameters.vector, learning_rate, **settings)]


@register_optimizer("adam")
def create_adam(parameters: FlatParameters, learning_rate: float) -> Sequence[torch.optim.Optimizer]:
    """Returns Adam (arXiv 1412.6980): AdamW without weight decay."""
    return [VectorAdamW(parameters.vector, learning_rate, weight_decay=0.0)]


@register_optimizer("sgd")
def create_sgd(
    parameters: FlatParameters, learning_rate: float, **settings: Any
) -> Sequence[torch.optim.Optimizer]:
    """Returns stochastic gradient descent with Nesterov momentum 0.9."""
    return [VectorSGD(parameters.vector, learning_rate, **settings)]


@register_optimizer("muon")
def create_muon(
    parameters: FlatParameters,
    learning_rate: float,
    vector_learning_rate: float | None = None,
    **settings: Any,
) -> Sequence[torch.optim.Optimizer]:
    """Returns Muon (K. Jordan 2024) for the matrices, and AdamW for the rest."""
    others = [p for p in parameters.parameters if p not in parameters.matrices]
    optimizers: list[torch.optim.Optimizer] = []
    if parameters.matrices:
        optimizers.append(Muon(parameters.matrices, learning_rate, **settings))
    if others:
        adamw = LeanAdamW(others, learning_rate, **settings)
        if vector_learning_rate is not None:
            adamw.param_groups[0][RATE_FACTOR] = vector_learning_rate / learning_rate
        optimizers.append(adamw)
    return optimizers


def set_learning_rate(optimizers: Sequence[torch.optim.Optimizer], learning_rate: float) -> None:
    """Sets the learning rate of every parameter of every optimizer, times the factor of its group."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * group.get(RATE_FACTOR, 1.0)


def init_optimizer_state(optimizers: Sequence[torch.optim.Optimizer]) -> None:
    """Makes the tensors of the optimizers' state, which they would make in their first step.

    A step with learning rate 0 makes them, and leaves the parameters as they are.
    """
    set_learning_rate(optimizers, 0.0)  # the loop sets it before each step
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        optimizer.zero_grad()
