"""What a tracer is told of operations that the compiler is better given in parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from torch import Tensor
from torch._ops import OpOverload

Decompositions = Mapping[OpOverload, Callable[..., Tensor]]
"""For each operation its equal in other operations; for `make_fx(..., decomposition_table=)`."""

AS_TORCH_DOES = cast(Tensor, NotImplemented)
"""What a decomposition returns to leave an operation whole."""
