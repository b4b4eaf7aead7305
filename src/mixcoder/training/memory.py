"""Whether a machine's memory can hold a training run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mixcoder.errors import ArgumentError, TrainingError
from mixcoder.models.autoencoder import Autoencoder
from mixcoder.models.cost import BYTES_A_PARAMETER
from mixcoder.models.summary import count_parameters


def check_fits(model: Autoencoder, device: torch.device) -> None:
    """Refuses a model whose training cannot fit into the memory of `device`.

    Args:
        model: may be on the meta device.
        device: where it is to be trained.

    Raises:
        ArgumentError: says how much it would take and how much there is.
    """
    params = count_parameters(model)
    needed, available = params * BYTES_A_PARAMETER, memory_of(device)
    if needed > available:
        raise ArgumentError(
            "",
            f"the model has {params:,} parameters; to train them takes {needed / 1e9:,.1f} GB of memory and "
            f"there are {available / 1e9:,.1f} GB; make hidden_channels, latent_dim or the mixing smaller",
        )


@contextmanager
def telling_of_memory(batch_size: int) -> Iterator[None]:
    """Turns running out of memory into a sentence.

    Raises:
        TrainingError: in place of torch's own error.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        is_memory = isinstance(error, torch.OutOfMemoryError | MemoryError) or "alloc" in str(error)
        if not is_memory:
            raise
        raise TrainingError(
            f"out of memory with batches of {batch_size:,} images; "
            "try a smaller training.batch_size or a smaller model"
        ) from error


def memory_of(device: torch.device) -> int:
    """Bytes of memory that `device` has."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
