"""The activation functions by name, and what may stand behind a network's last layer."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor, nn

from mixcoder.registry.registry import Registry


class Clamp(nn.Module):
    """A clip to [0, 1], where images are; in training it lets through a tenth of what lies beyond.

    With none, a pixel beyond would have no gradient, and never come back.
    """

    LEAK = 0.1

    def forward(self, x: Tensor) -> Tensor:
        clipped = x.clamp(0, 1)
        return clipped + self.LEAK * (x - clipped) if self.training else clipped


ACTIVATIONS: Registry[type[nn.Module]] = Registry("activation", "activation")
ActivationName = Annotated[str, ACTIVATIONS]
OUTPUT_ACTIVATIONS: Registry[type[nn.Module]] = Registry("output activation", "output_activation")
OutputActivationName = Annotated[str, OUTPUT_ACTIVATIONS]
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
    OUTPUT_ACTIVATIONS.register(_name)(_activation)
OUTPUT_ACTIVATIONS.register("clamp")(Clamp)


def create_activation(name: str) -> nn.Module:
    """Returns the elementwise activation called `name`; "none" is the identity.

    Raises:
        ArgumentError: the name is unknown.
    """
    return ACTIVATIONS[name]()
