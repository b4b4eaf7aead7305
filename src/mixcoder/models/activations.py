"""The activation functions by name, and what may stand behind a network's last layer."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from mixcoder.registry.parts import Part, PartOf
from mixcoder.registry.registry import Registry


class Clamp(nn.Module):
    """A clip to [0, 1], where images are; in training it lets through a tenth of what lies beyond.

    With none, a pixel beyond would have no gradient, and never come back.
    """

    LEAK = 0.1

    def forward(self, x: Tensor) -> Tensor:
        clipped = x.clamp(0, 1)
        return clipped + self.LEAK * (x - clipped) if self.training else clipped


class TanhGelu(nn.GELU):
    """GELU in its form with tanh: x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2.

    Source: "Gaussian Error Linear Units", arXiv 1606.08415.
    """

    def __init__(self) -> None:
        super().__init__("tanh")


class Sigmoid(nn.Module):
    """A sigmoid of scaled and shifted values: 1/(1 + exp(-(scale·x + offset))).

    Args:
        scale: of the values; with 8, small weights of the last layer reach black and white.
        offset: added to them; a negative one makes a network begin with dark images.
    """

    def __init__(self, scale: float = 1.0, offset: float = 0.0) -> None:
        super().__init__()
        self.scale = scale
        self.offset = offset

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.scale * x + self.offset)

    def extra_repr(self) -> str:
        return f"scale={self.scale}, offset={self.offset}"


ACTIVATIONS: Registry[type[nn.Module]] = Registry("activation", "activation")
ActivationName = Annotated[str, ACTIVATIONS]
OUTPUT_ACTIVATIONS: Registry[type[nn.Module]] = Registry("output activation", "output_activation")
OUTPUT_ACTIVATION = PartOf(OUTPUT_ACTIVATIONS)
OutputActivation = Annotated[Part, OUTPUT_ACTIVATION]
for _name, _activation in {
    "none": nn.Identity,
    "gelu": nn.GELU,
    "gelu_tanh": TanhGelu,
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}.items():
    ACTIVATIONS.register(_name)(_activation)
    OUTPUT_ACTIVATIONS.register(_name)(_activation)
ACTIVATIONS.register("sigmoid")(nn.Sigmoid)
OUTPUT_ACTIVATIONS.register("sigmoid")(Sigmoid)
OUTPUT_ACTIVATIONS.register("clamp")(Clamp)


def create_activation(name: str) -> nn.Module:
    """Returns the elementwise activation called `name`; "none" is the identity.

    Raises:
        ArgumentError: the name is unknown.
    """
    return ACTIVATIONS[name]()


def create_output_activation(part: Part) -> nn.Module:
    """Returns what stands behind a network's last layer.

    Raises:
        ArgumentError: the name is unknown, or the activation does not take these arguments.
    """
    activation: nn.Module = OUTPUT_ACTIVATION.create(part)
    return activation
