"""Where to compute, and in what."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mixcoder.errors import ArgumentError, describe_type, first_line
from mixcoder.text.sanitize import sanitize


def resolve_device(device: str | torch.device) -> torch.device:
    """The device, or that of a name; of "auto", a GPU where there is one.

    Raises:
        ArgumentError: it cannot be used here.
    """
    if not isinstance(device, str | torch.device):
        raise ArgumentError("device", f"must be a name such as 'cpu', got {describe_type(device)}")
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.zeros(1, device=resolved).item()
    except Exception as error:
        name, reason = sanitize(str(device)), sanitize(first_line(error), 200)
        raise ArgumentError(
            "device", f"'{name}' cannot be used here ({reason}); 'auto' or 'cpu' can"
        ) from None
    return resolved


@contextmanager
def factory_defaults() -> Iterator[None]:
    """Context in which new tensors are float32, on the CPU and ordinary, whatever the program around us set.

    The default type is that of all threads: nothing that takes long may stand within it.
    """
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device("cpu"), torch.inference_mode(False):
            yield
    finally:
        torch.set_default_dtype(dtype)
