"""How much memory is available: the smallest of the limits of the machine, its containers and its users."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

_PROCESS = Path("/proc/self")
_CONTROL_GROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class AvailableMemory:
    """An amount of memory that this process may still take.

    Attributes:
        bytes: how much.
        where: the limit, as in "there are 2 GB on this machine".
    """

    bytes: int
    where: str


_UNKNOWN = AvailableMemory(2**63 - 1, "on this machine")
"""Where no limit is known: more than any estimate."""


def available_memory(device: torch.device, processes: int = 1) -> AvailableMemory:
    """Returns the memory that is available to a process of a run on `device`, were it the only run.

    Args:
        device: of the process; each process has a GPU of its own.
        processes: of the run on this machine.
    """
    if device.type == "cuda":
        total = torch.cuda.mem_get_info(device)[1] - torch.cuda.memory_allocated(device)
        return AvailableMemory(total, "on the GPU")
    return min(_limits(processes), key=lambda limit: limit.bytes, default=_UNKNOWN)


def _limits(processes: int) -> Iterator[AvailableMemory]:
    """Yields what each limit leaves beside the memory that this process holds, of its equal share."""
    held = _own_bytes("RssAnon")
    share = " for each of them" if processes > 1 else ""
    machine = _machine_bytes()
    if machine is not None:
        yield AvailableMemory(machine // processes - held, f"on this machine{share}")
    for group in control_group_limits(_PROCESS / "cgroup", _CONTROL_GROUPS):
        yield AvailableMemory(group // processes - held, f"in this control group{share}")
    limit = _address_space()
    if limit is not None:
        yield AvailableMemory(limit - _own_bytes("VmSize"), "within ulimit -v")


def control_group_limits(membership: Path, root: Path) -> list[int]:
    """Returns the memory limits in bytes of a process's control groups and of all above; version 1 and 2.

    Args:
        membership: the process's `/proc/<pid>/cgroup`, with lines `number:controllers:path`.
        root: where the groups' folders are.
    """
    limits = []
    for line in _text(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, file = root, "memory.max"
        elif "memory" in controllers.split(","):
            base, file = root / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = base / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(base) and (text := _text(folder / file).strip()).isdecimal():
                limits.append(int(text))
    return limits


def _machine_bytes() -> int | None:
    """Returns the bytes of this machine's memory, or None where the system does not tell."""
    try:
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf, others lack its names
        return None
    return pages * size if min(pages, size) > 0 else None


def _address_space() -> int | None:
    """Returns the limit of `ulimit -v` in bytes, or None where there is none."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else soft


def _own_bytes(kind: str) -> int:
    """Returns an entry of `/proc/self/status`, such as VmSize, in bytes; 0 where there is no such file."""
    found = re.search(rf"^{kind}:\s+(\d+) kB$", _text(_PROCESS / "status"), re.M)
    return int(found[1]) * 1024 if found else 0


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
