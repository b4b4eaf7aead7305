"""The ranks of a run under torchrun, and what they say to each other.

torchrun ─▶ processes ─▶ join_ranks ─┬▶ gloo, on the CPU: errors, flags, losses, tensors of a checkpoint
                                     └▶ NCCL with a GPU for each rank, else gloo: gradients
"""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from mixcoder.backends.step import Reduction
from mixcoder.device import resolve_device
from mixcoder.errors import (
    ArgumentError,
    MixcoderError,
    PeerEndedError,
    ReportedError,
    TrainingError,
    first_line,
)
from mixcoder.text.sanitize import sanitize
from mixcoder.training.ranks import Ranks

Result = TypeVar("Result")

_LONGEST_PAUSE = timedelta(days=7)
"""The longest time that ranks wait for each other outside of training: one may fetch and pack images."""
_LONGEST_STEP = timedelta(minutes=30)
"""The longest time that ranks wait for each other within a step, before the first of them gives up."""


class ProcessGroup(Ranks):
    """The ranks that torchrun has started.

    Args:
        device: the name of the device that the user wants: "auto", "cpu" or "cuda".

    Attributes:
        device: the device of this rank.

    Raises:
        ArgumentError: ranks cannot have this device.
        ReportedError: those of another rank cannot.
        PeerEndedError: another rank has ended.
    """

    def __init__(self, device: str) -> None:
        self.index, self.count = dist.get_rank(), dist.get_world_size()
        with self.together():
            self.device = _local_device(device)
        is_alike = self.is_same(self.device.type)
        with self.together():
            if not is_alike:
                raise ArgumentError("device", "some machines have GPUs and some have none; 'cpu' suits all")
        backend = "nccl" if self.device.type == "cuda" else "gloo"
        self._group = _collective(dist.new_group, backend=backend, timeout=_LONGEST_STEP)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Context after which all ranks go on, or none: an error in one of them ends them all."""
        failure: Exception | None = None
        try:
            yield
        except PeerEndedError:
            raise
        except Exception as error:
            failure = error
        status = failure.exit_status if isinstance(failure, MixcoderError) else 1
        statuses = torch.zeros(self.count, dtype=torch.int64)
        statuses[self.index] = status if failure else 0
        failed = torch.nonzero(_summed(statuses)).flatten().tolist()
        if failure and failed[0] == self.index:
            raise failure
        if failed:
            raise ReportedError(int(statuses[failed[0]]))

    def any(self, flag: bool) -> bool:
        return self.total(flag) > 0

    def is_same(self, text: str) -> bool:
        number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
        return self.from_first(number) == number

    def total(self, value: float) -> float:
        return _summed(torch.tensor(value, dtype=torch.float64)).item()

    def weighted_sum(self, values: Tensor, weight: float) -> Tensor:
        return _summed(values * weight)

    def reduction(self, weight: float) -> Reduction:
        return partial(self._reduce, weight)

    def from_first(self, value: int) -> int:
        tensor = torch.tensor(value, dtype=torch.int64)
        self.broadcast([tensor])
        return int(tensor)

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        for tensor in filter(torch.numel, tensors):
            elements = tensor.detach().cpu().contiguous()
            _collective(dist.broadcast, elements.view(-1).view(torch.uint8), src=0)
            if not self.is_first:
                tensor.detach().copy_(elements)

    def seed(self, seed: int, step: int) -> None:
        [drawn] = np.random.SeedSequence([seed, step, self.index]).generate_state(1, np.uint64)
        torch.manual_seed(int(drawn))

    def _reduce(self, weight: float, gradients: Tensor) -> None:
        _collective(dist.all_reduce, gradients.mul_(weight), group=self._group)


@contextmanager
def join_ranks(device: str) -> Iterator[ProcessGroup]:
    """Context in which the processes that torchrun has started are ranks of one run.

    Args:
        device: the name of the device that the user wants: "auto", "cpu" or "cuda".

    Raises:
        TrainingError: the processes cannot reach each other.
        ArgumentError: ranks cannot have this device.
        ReportedError: those of another rank cannot.
        PeerEndedError: another rank has ended.
    """
    try:
        _init_group()
    except RuntimeError as error:
        reason = sanitize(first_line(error), 200)
        raise TrainingError(f"the processes of torchrun cannot reach each other ({reason})") from error
    try:
        yield ProcessGroup(device)
    except Exception:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # of torchrun, once another has ended: this one speaks
        raise
    finally:
        dist.destroy_process_group()  # its threads would abort a process that ends


def _init_group() -> None:
    store, rank, count = next(rendezvous("env://", timeout=_LONGEST_PAUSE))
    # torchrun may keep its store after a restart, with the addresses of the processes before
    attempt = PrefixStore(os.environ["TORCHELASTIC_RESTART_COUNT"], store)
    dist.init_process_group("gloo", timeout=_LONGEST_PAUSE, store=attempt, rank=rank, world_size=count)


def _local_device(name: str) -> torch.device:
    """Returns the device of this process: the GPU of its number among those of this machine, or the CPU.

    Raises:
        ArgumentError: there are too few GPUs, or the device is not for several processes.
    """
    processes, gpus = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
    if name == "cpu" or (name == "auto" and not gpus):
        return torch.device("cpu")
    if name not in ("auto", "cuda"):
        raise ArgumentError(
            "device", "under torchrun, must be auto, cpu or cuda: each process has its own GPU"
        )
    if processes > gpus > 0:
        raise ArgumentError(
            "device", f"{processes} processes need as many GPUs, here are {gpus}; 'cpu' needs none"
        )
    device = resolve_device(f"cuda:{os.environ['LOCAL_RANK']}" if gpus else "cuda")
    torch.cuda.set_device(device)
    return device


def _summed(values: Tensor) -> Tensor:
    """Returns the sum of a tensor on the CPU over all ranks, in place."""
    _collective(dist.all_reduce, values)
    return values


def _collective(operation: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
    """Returns the result of an operation of all ranks.

    Raises:
        PeerEndedError: another rank has ended, or does not answer.
    """
    try:
        return operation(*args, **kwargs)
    except RuntimeError as error:
        raise PeerEndedError(
            "another process of this run has ended or does not answer; torchrun's restart, or the same "
            "command, goes on from the last checkpoint"
        ) from error
