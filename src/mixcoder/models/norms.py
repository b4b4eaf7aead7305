"""The normalisations of a patch's vector, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from torch import nn

from mixcoder.registry.registry import Registry

NORMS: Registry[Callable[[int], nn.Module]] = Registry("norm", "norm")
NormName = Annotated[str, NORMS]
NORMS.register("none")(lambda channels: nn.Identity())
NORMS.register("layer")(nn.LayerNorm)
NORMS.register("rms")(nn.RMSNorm)


def create_norm(name: str, channels: int) -> nn.Module:
    """Returns the normalisation over the last axis of (B, P, channels); "none" is the identity.

    Raises:
        ArgumentError: the name is unknown.
    """
    return NORMS[name](channels)
