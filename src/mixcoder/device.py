"""Where to compute."""

from __future__ import annotations

import torch

from mixcoder.errors import ArgumentError, first_line


def resolve_device(device: str) -> torch.device:
    """The device of that name; of "auto", a GPU where there is one.

    Raises:
        ArgumentError: it cannot be used here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.zeros(1, device=resolved).item()
    except Exception as error:
        raise ArgumentError(
            "device", f"'{device}' cannot be used here ({first_line(error)}); 'auto' or 'cpu' can"
        ) from None
    return resolved
