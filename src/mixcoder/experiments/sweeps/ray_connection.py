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

from mixcoder.errors import ClusterError, MixcoderWarning, first_line

_PROBE_SECONDS = 3.0
_CONNECT_SECONDS = 20.0
_LOOK_SECONDS = 2.0
"""Seconds between two looks at the head of the cluster, and at what the nodes have."""
_HEAD_SECONDS = 20.0
"""How long a head may be away, as while it is started again; after 60 s Ray ends this process."""
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
            f"--cluster {address}: what answers there is no Ray cluster of version {ray.__version__}"
        )
    if errors:
        raise ClusterError(f"--cluster {address}: {first_line(errors[0]).rstrip('.')}; {_HINT}") from errors[
            0
        ]


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
    written_down = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster")  # noqa: S108 - Ray's
    try:
        return os.environ.get("RAY_ADDRESS") or written_down.read_text().strip()
    except OSError:
        raise ClusterError(f"--cluster auto: this machine belongs to no Ray cluster; {_HINT}") from None


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
        host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
        self._head = (host, int(port))
        self._next_look = self._answered = time.monotonic()

    def look(self, are_waiting: bool) -> None:
        """Looks at the cluster, if it is time to; warns where runs wait for what no node has.

        Raises:
            ClusterError: the head of the cluster is gone.
        """
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _LOOK_SECONDS
        if _answers(*self._head):
            self._answered = now
            if are_waiting:
                self._tell_of_missing()
        elif now - self._answered > _HEAD_SECONDS:
            raise ClusterError(
                "the head of the cluster is gone; the same command goes on once there is one again"
            )

    def _tell_of_missing(self) -> None:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if not any(all(node.get(key, 0) >= n for key, n in self._wanted.items()) for node in nodes):
            wanted = " and ".join(f"{n:g} {key}" for key, n in self._wanted.items() if n)
            message = f"waiting: no node has {wanted}; nodes may join, Ctrl-C gives up"
            warnings.warn(message, MixcoderWarning, stacklevel=2)
