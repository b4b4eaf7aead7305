"""Decompositions for operations that Inductor compiles poorly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from torch import Tensor

from mixcoder.torch_private import OpOverload

Decompositions = Mapping[OpOverload, Callable[..., Tensor]]
"""For each operation a function that computes the same by other operations."""

AS_TORCH_DOES = cast(Tensor, NotImplemented)
"""A decomposition returns this to keep the operation as it is."""
