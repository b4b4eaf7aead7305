"""Watching what torch computes, operation by operation."""

from __future__ import annotations

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode


class Watching(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within it, every operation goes through its `__torch_dispatch__`; for eager computations alone."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Leaves out torch's own, which marks the subclass for the compiler and imports that: two seconds."""
        super(TorchDispatchMode, cls).__init_subclass__(**kwargs)

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
