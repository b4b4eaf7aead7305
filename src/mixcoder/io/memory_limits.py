"""How much memory there is: the smallest of the limits that a machine, its containers and its users set."""

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
class Room:
    """Memory that this process may still take.

    Attributes:
        bytes: how much.
        where: what sets the limit, as in "there are 2 GB on this machine".
    """

    bytes: int
    where: str


_UNKNOWN = Room(2**63 - 1, "on this machine")
"""Where no limit is known, none is checked."""


def room_on(device: torch.device) -> Room:
    """The memory that there is for a run on `device`, were it the only one."""
    if device.type == "cuda":
        total = torch.cuda.mem_get_info(device)[1] - torch.cuda.memory_allocated(device)
        return Room(total, "on the GPU")
    return min(_rooms(), key=lambda room: room.bytes, default=_UNKNOWN)


def _rooms() -> Iterator[Room]:
    held = _own_bytes("RssAnon")
    machine = _machine_bytes()
    if machine is not None:
        yield Room(machine - held, "on this machine")
    for group in control_group_limits(_PROCESS / "cgroup", _CONTROL_GROUPS):
        yield Room(group - held, "in this control group")
    limit = _address_space()
    if limit is not None:
        yield Room(limit - _own_bytes("VmSize"), "within ulimit -v")


def control_group_limits(membership: Path, root: Path) -> list[int]:
    """The memory limits in bytes of a process's control groups and of all above them; version 1 and 2.

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
    """The memory of this machine; None where the system does not tell."""
    try:
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf, others lack its names
        return None
    return pages * size if min(pages, size) > 0 else None


def _address_space() -> int | None:
    """The limit that `ulimit -v` sets, in bytes; None where there is none."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else soft


def _own_bytes(kind: str) -> int:
    """What Linux tells of this process's memory, such as VmSize; 0 elsewhere."""
    found = re.search(rf"^{kind}:\s+(\d+) kB$", _text(_PROCESS / "status"), re.M)
    return int(found[1]) * 1024 if found else 0


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
