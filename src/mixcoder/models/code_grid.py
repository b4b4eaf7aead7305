"""Codes of few bits: each number of a code is rounded to one of a few levels between its extremes.

    latents (N, *latent_shape) ─ CodeRange ─▶ lowest, highest (*latent_shape)
    latents ─ CodeGrid ─▶ levels, whole numbers 0 … 2^bits - 1 ─▶ rounded latents

The levels are evenly spaced. The lowest value of a number is level 0, the highest is the last level: both are
kept to the bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mixcoder.errors import ArgumentError

MOST_BITS = 16


@dataclass(frozen=True, eq=False)
class CodeGrid:
    """The levels of each number of a code.

    Attributes:
        lowest: (*latent_shape) float32, finite.
        highest: likewise, nowhere below `lowest`.
        bits: of each number, 1 to 16.
    """

    lowest: Tensor
    highest: Tensor
    bits: int

    def levels(self, latents: Tensor) -> Tensor:
        """Returns the nearest levels (B, *latent_shape) int32 of finite latents; 0 of a constant number."""
        lowest, highest = self._ends(latents.device)
        width = highest - lowest
        shares = (latents.double() - lowest) / torch.where(width > 0, width, 1)
        return (shares.clamp(0, 1) * self._last).round().int()

    def latents(self, levels: Tensor) -> Tensor:
        """Returns the latents (B, *latent_shape) float32 of levels."""
        return torch.lerp(*self._ends(levels.device), levels.double() / self._last).float()

    def rounded(self, latents: Tensor) -> Tensor:
        """Returns latents (B, *latent_shape) rounded to their levels; in their own type."""
        return self.latents(self.levels(latents)).to(latents.dtype)

    @property
    def _last(self) -> int:
        return (1 << self.bits) - 1

    def _ends(self, device: torch.device) -> tuple[Tensor, Tensor]:
        return self.lowest.to(device).double(), self.highest.to(device).double()


class CodeRange:
    """The lowest and the highest value so far of each number of some codes."""

    def __init__(self) -> None:
        self._extremes: tuple[Tensor, Tensor] | None = None

    def include(self, latents: Tensor) -> None:
        """Widens the range to latents (B, *latent_shape), B at least 1."""
        latents = latents.float()
        lowest, highest = latents.amin(0), latents.amax(0)
        if self._extremes is not None:
            lowest, highest = lowest.minimum(self._extremes[0]), highest.maximum(self._extremes[1])
        self._extremes = lowest, highest

    def grid(self, bits: int) -> CodeGrid:
        """Returns the grid between the extremes, after latents were included.

        Raises:
            ArgumentError: a latent was not finite.
        """
        if self._extremes is None or not all(bool(ends.isfinite().all()) for ends in self._extremes):
            raise ArgumentError("bits", "needs codes of finite numbers")
        return CodeGrid(*self._extremes, bits)


def check_bits(bits: object) -> None:
    """Checks a number of bits; None is for codes that are not rounded.

    Raises:
        ArgumentError: it is anything else.
    """
    if bits is not None and (type(bits) is not int or not 1 <= bits <= MOST_BITS):
        raise ArgumentError("bits", f"must be a whole number from 1 to {MOST_BITS}, got {bits}")
