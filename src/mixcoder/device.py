"""The device to compute on, and the defaults of new tensors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mixcoder.errors import ArgumentError, describe_type, first_line
from mixcoder.text.sanitize import sanitize


def resolve_device(device: str | torch.device) -> torch.device:
    """Returns a device by its name, which is checked; for "auto", a GPU where there is one.

    Raises:
        ArgumentError: the device cannot be used here.
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
    """Context in which new tensors are ordinary ones in float32 on the CPU, as by torch's own defaults.

    The default type is one for all threads: the `with` block must be short.
    """
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.device("cpu"), torch.inference_mode(False):
            yield
    finally:
        torch.set_default_dtype(dtype)
