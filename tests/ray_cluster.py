"""A real Ray cluster for tests: a head without CPUs, and nodes as they are asked for.

    one line in: {"add": {"num_cpus": 1}} ─▶ one line out: the number of the node
                 {"kill": 1}              ─▶ its raylet is killed, as a machine that vanishes

`python -m tests.ray_cluster NODES` prints its address first, and ends with its standard input. Ray itself
stays out of the process of the tests.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO

ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
"""Nothing is sent anywhere, and nobody else is on this machine."""


class RayCluster:
    """The cluster, as tests drive it.

    Args:
        folder: of Ray's files; its path is short, as sockets lie there.
        nodes: of one CPU each, numbered from 0.
    """

    def __init__(self, folder: Path, nodes: int) -> None:
        (folder / "tmp").mkdir()  # of runs
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.ray_cluster", str(nodes)],
            cwd=Path(__file__).parents[1],
            env={**os.environ, **ENVIRONMENT, "RAY_TMPDIR": str(folder), "TMPDIR": str(folder / "tmp")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.folder = folder

    @cached_property
    def address(self) -> str:
        """HOST:PORT, once the cluster is up."""
        return self._line()

    def add_node(self, **settings: Any) -> int:
        """Adds a node; returns its number."""
        return int(self._ask({"add": settings}))

    def kill_node(self, number: int) -> None:
        """Kills the raylet of a node."""
        self._ask({"kill": number})

    def close(self) -> None:
        """Ends the cluster."""
        self._process.communicate(timeout=60)

    def _ask(self, request: dict[str, Any]) -> str:
        assert self.address
        assert self._process.stdin is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._line()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the cluster has ended"
        return line.strip()


def serve(nodes_at_first: int, requests: TextIO) -> None:
    """Starts a cluster, and changes it as the lines of `requests` say, until these end."""
    import ray
    from ray.cluster_utils import Cluster

    place = {"node_ip_address": ray.util.get_node_ip_address()}
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **place}
    )
    nodes = [cluster.add_node(num_cpus=1, **place) for _ in range(nodes_at_first)]
    print(cluster.address, flush=True)
    for line in requests:
        match json.loads(line):
            case {"add": settings}:
                nodes.append(cluster.add_node(**place, **settings))
                print(len(nodes) - 1, flush=True)
            case {"kill": number}:
                [raylet] = nodes[number].all_processes["raylet"]
                raylet.process.kill()
                cluster.remove_node(nodes[number], allow_graceful=False)
                print("killed", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.stdin)
