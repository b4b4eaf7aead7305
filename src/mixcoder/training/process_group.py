"""The ranks of a run under torchrun, and what they say to each other.

torchrun ─▶ processes ─▶ join_ranks ─┬▶ gloo, with patience for days: errors
                                     ├▶ gloo, for minutes: flags, losses, tensors of a checkpoint
                                     └▶ NCCL with a GPU for each rank, else gloo, for minutes: gradients
"""

from __future__ import annotations

import hashlib
import os
import signal
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
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
    is_out_of_memory,
)
from mixcoder.text.sanitize import sanitize
from mixcoder.training.ranks import Ranks

Result = TypeVar("Result")

LONGEST_JOIN = timedelta(minutes=10)
"""The longest time that a process waits for the others of torchrun to join."""
_LONGEST_PAUSE = timedelta(days=7)
"""The longest time that ranks wait for each other in `together`: one may fetch and pack images."""
_LONGEST_STEP = timedelta(minutes=30)
"""The longest time that ranks wait for each other elsewhere, before the first of them gives up."""


class ProcessGroup(Ranks):
    """The ranks that torchrun has started.

    Args:
        device: the name of the device that the user wants: "auto", "cpu" or "cuda".
        groups: empty; gets the groups of torch, which the caller forgets at the end.

    Attributes:
        device: the device of this rank.

    Raises:
        ArgumentError: ranks cannot have this device.
        ReportedError: those of another rank cannot.
        PeerEndedError: another rank has ended.
    """

    def __init__(self, device: str, groups: dict[str, dist.ProcessGroup]) -> None:
        self.index, self.count = dist.get_rank(), dist.get_world_size()
        self.count_here = _processes_here()
        self._groups = groups
        groups["steps"] = _new_group("gloo", _LONGEST_STEP)
        groups["pauses"] = _new_group("gloo", _LONGEST_PAUSE)
        with self.together():
            self.device = _local_device(device)
        is_alike = self.is_same(self.device.type)
        with self.together():
            if not is_alike:
                raise ArgumentError("device", "some machines have GPUs and some have none; 'cpu' suits all")
        is_on_gpu = self.device.type == "cuda"
        groups["gradients"] = _new_group("nccl", _LONGEST_STEP) if is_on_gpu else groups["steps"]

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
        try:
            _collective(dist.all_reduce, statuses, group=self._groups["pauses"])
        except Exception:
            if failure:  # says more than that another rank has ended
                raise failure from None
            raise
        failed = torch.nonzero(statuses).flatten().tolist()
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
        return self.weighted_sum(torch.tensor(value, dtype=torch.float64), 1).item()

    def weighted_sum(self, values: Tensor, weight: float) -> Tensor:
        weighted = values * weight
        _collective(dist.all_reduce, weighted, group=self._groups["steps"])
        return weighted

    def reduction(self, weight: float) -> Reduction:
        return partial(self._reduce, weight)

    def from_first(self, value: int) -> int:
        tensor = torch.tensor(value, dtype=torch.int64)
        self.broadcast([tensor])
        return int(tensor)

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        for tensor in filter(torch.numel, tensors):
            elements = tensor.detach().cpu().contiguous()
            raw = elements.view(-1).view(torch.uint8)
            _collective(dist.broadcast, raw, src=0, group=self._groups["steps"])
            if not self.is_first:
                tensor.detach().copy_(elements)

    def seed(self, seed: int, step: int) -> None:
        [drawn] = np.random.SeedSequence([seed, step, self.index]).generate_state(1, np.uint64)
        torch.manual_seed(int(drawn))

    def _reduce(self, weight: float, gradients: Tensor) -> None:
        _collective(dist.all_reduce, gradients.mul_(weight), group=self._groups["gradients"])


@contextmanager
def join_ranks(device: str) -> Iterator[ProcessGroup]:
    """Context in which the processes that torchrun has started are ranks of one run.

    Args:
        device: the name of the device that the user wants: "auto", "cpu" or "cuda".

    Raises:
        TrainingError: the processes cannot reach each other.
        ArgumentError: ranks cannot have this device.
        ReportedError: those of another rank cannot.
        PeerEndedError: another rank has ended, or has not joined.
    """
    try:
        _init_group()
    except dist.DistStoreError as error:  # nothing of another process within the time
        raise _peer_ended(error) from error
    except RuntimeError as error:
        reason = sanitize(first_line(error), 200)
        raise TrainingError(f"the processes of torchrun cannot reach each other ({reason})") from error
    groups: dict[str, dist.ProcessGroup] = {}
    try:
        yield ProcessGroup(device, groups)
    except BaseException as error:  # this one speaks, whatever torchrun sends next
        is_interrupted = isinstance(error, KeyboardInterrupt)
        signal.signal(signal.SIGINT if is_interrupted else signal.SIGTERM, signal.SIG_IGN)
        _clear_frames(error)
        raise
    finally:
        groups.clear()  # the threads of a group that is left would abort a process that ends
        with suppress(RuntimeError):  # or it would hide what this process is about to say
            dist.destroy_process_group()


def _clear_frames(error: BaseException | None) -> None:
    """Frees the variables of the functions that an error and its causes have ended; they hold groups."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _init_group() -> None:
    store, rank, count = next(rendezvous("env://", timeout=LONGEST_JOIN))
    # torchrun may keep its store after a restart, with the addresses of the processes before
    attempt = PrefixStore(os.environ["TORCHELASTIC_RESTART_COUNT"], store)
    dist.init_process_group("gloo", timeout=LONGEST_JOIN, store=attempt, rank=rank, world_size=count)


def _new_group(backend: str, timeout: timedelta) -> dist.ProcessGroup:
    """Returns all ranks as a group of a backend and a patience of its own."""
    group: dist.ProcessGroup = _collective(dist.new_group, backend=backend, timeout=timeout)
    return group


def _processes_here() -> int:
    """Returns the number of torchrun's processes on this machine."""
    return int(os.environ["LOCAL_WORLD_SIZE"])


def _local_device(name: str) -> torch.device:
    """Returns the device of this process: the GPU of its number among those of this machine, or the CPU.

    Raises:
        ArgumentError: there are too few GPUs, or the device is not for several processes.
    """
    processes, gpus = _processes_here(), torch.cuda.device_count()
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


def _collective(operation: Callable[..., Result], *args: Any, **kwargs: Any) -> Result:
    """Returns the result of an operation of all ranks.

    Raises:
        PeerEndedError: another rank has ended, or does not answer.
    """
    try:
        return operation(*args, **kwargs)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise _peer_ended(error) from error


def _peer_ended(error: Exception) -> PeerEndedError:
    """Returns the error that a library's stands for."""
    return PeerEndedError(
        "another process of this run has ended or does not answer; torchrun's restart, or the same "
        f"command, goes on from the last checkpoint ({sanitize(first_line(error), 200)})"
    )
