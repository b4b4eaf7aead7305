"""The activation functions by name."""

from __future__ import annotations

from typing import Annotated

from torch import nn

from mixcoder.registry import Registry

ACTIVATIONS: Registry[type[nn.Module]] = Registry("activation", "activation")
ActivationName = Annotated[str, ACTIVATIONS]
for _name, _activation in {
    "none": nn.Identity,
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}.items():
    ACTIVATIONS.register(_name)(_activation)


def create_activation(name: str) -> nn.Module:
    """The elementwise activation called `name`; "none" is the identity.

    Raises:
        ArgumentError: the name is unknown.
    """
    return ACTIVATIONS[name]()
