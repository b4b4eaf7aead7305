"""The way to a Ray cluster: every wait ends in a sentence.

Ray itself waits for minutes where nothing answers, and for ever for what no node has.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import warnings
from contextlib import closing
from pathlib import Path

import ray

from mixcoder.errors import ClusterError, MixcoderWarning

_PROBE_SECONDS = 3.0
_CONNECT_SECONDS = 20.0
_LOOK_SECONDS = 2.0
"""Seconds between two looks at the head of the cluster, and at what the nodes have."""
_HEAD_SECONDS = 20.0
"""How long a head may be away, as while it is started again; after 60 s Ray ends this process."""
_TAKEN_SECONDS = 20.0
"""How long no run has a node, before a cluster that others fill is spoken of."""
_HINT = "start one with ray start --head, or join it with ray start --address=HOST:PORT; see docs/cluster.md"


def connect(address: str) -> None:
    """Connects this process to a cluster.

    Args:
        address: HOST:PORT, or "auto" for the cluster that this machine belongs to.

    Raises:
        ClusterError: there is none, or it is not to be used from here; says why.
    """
    known = _find_address() if address == "auto" else address
    _probe(known)
    errors: list[Exception] = []
    thread = threading.Thread(target=_init, args=(known, errors), daemon=True)
    thread.start()
    thread.join(_CONNECT_SECONDS)
    if thread.is_alive():
        raise ClusterError(
            f"--cluster {address}: what answers there lets this machine not in; it must be a Ray cluster of "
            f"version {ray.__version__}, RAY_AUTH_TOKEN its token, and this machine one of its nodes: "
            "ray start --address=HOST:PORT"
        )
    for error in errors:
        raise ClusterError(f"--cluster {address}: {' '.join(str(error).split()).rstrip('.')}") from error


def _init(address: str, errors: list[Exception]) -> None:
    """Connects, or notes why not."""
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # of many types: another version, no token, a cluster without this machine
        errors.append(error)


def _find_address() -> str:
    """Returns the address of the cluster that this machine belongs to.

    Raises:
        ClusterError: it belongs to none.
    """
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - as Ray does
    stated = os.environ.get("RAY_ADDRESS", "auto")
    try:
        return stated if stated not in ("", "auto") else _written_down(Path(folder))
    except OSError:
        raise ClusterError(f"--cluster auto: this machine belongs to no Ray cluster; {_HINT}") from None


def _written_down(folder: Path) -> str:
    return (folder / "ray" / "ray_current_cluster").read_text().strip()


def _probe(address: str) -> None:
    """Checks that something answers at an address.

    Raises:
        ClusterError: nothing does, or it is no address.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "//" in host:
        raise ClusterError(f"--cluster {address}: must be auto or HOST:PORT, such as 10.0.0.1:6379")
    if not _answers(host, int(port)):
        raise ClusterError(f"--cluster {address}: no Ray cluster answers there; {_HINT}")


def _answers(host: str, port: int) -> bool:
    try:
        with closing(socket.create_connection((host.strip("[]"), port), _PROBE_SECONDS)):
            return True
    except (OSError, OverflowError):
        return False


class ClusterWatch:
    """A watch over what a sweep would else wait for without a word.

    Args:
        cpus: that a run takes of a node.
        gpus: likewise.
    """

    def __init__(self, cpus: float, gpus: float) -> None:
        self._wanted = {"CPU": cpus, "GPU": gpus}
        context = ray.get_runtime_context()
        host, _, port = context.gcs_address.rpartition(":")
        self._head, self._node = (host, int(port)), context.get_node_id()
        self._next_look = self._answered = self._placed = time.monotonic()

    def look(self, placed: int, waiting: int) -> None:
        """Looks at the cluster, if it is time to; warns where runs wait for what no node has.

        Args:
            placed: runs that have a node.
            waiting: runs that wait for one.

        Raises:
            ClusterError: the cluster is gone.
        """
        now = time.monotonic()
        if placed or not waiting:
            self._placed = now
        if now < self._next_look:
            return
        self._next_look = now + _LOOK_SECONDS
        if _answers(*self._head):
            self._answered = now
            self._look_at_nodes(waiting)
        elif now - self._answered > _HEAD_SECONDS:
            raise ClusterError(
                "the head of the cluster is gone; the same command goes on once there is one again"
            )

    def _look_at_nodes(self, waiting: int) -> None:
        nodes = {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}
        if self._node not in nodes:
            raise ClusterError(
                "this machine is no longer part of the cluster; join it again with ray start, "
                "then the same command goes on"
            )
        if waiting and not any(map(self._suffices, nodes.values())):
            wanted = " and ".join(f"{n:g} {key}" for key, n in self._wanted.items() if n)
            _tell(f"waiting: no node has {wanted}; nodes may join, Ctrl-C gives up")
        elif time.monotonic() - self._placed > _TAKEN_SECONDS:
            _tell("waiting: all nodes are taken; Ctrl-C gives up")

    def _suffices(self, resources: dict[str, float]) -> bool:
        return all(resources.get(key, 0) >= n for key, n in self._wanted.items())


def _tell(message: str) -> None:
    warnings.warn(message, MixcoderWarning, stacklevel=2)  # shown once
