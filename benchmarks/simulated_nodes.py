"""Nodes of a cluster in memory: the real sweep trains on them, and an hour takes a moment.

    train_all ─▶ SimulatedNodes ─▶ pending ─▶ on a free node ─┬▶ ends ─▶ seen a round later ─▶ Done
                                                              └▶ its node is gone ─▶ noticed later ─▶ Lost

The clock moves in `wait`, to the next event. All times are in seconds.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mixcoder.experiments.runs.training_run import CHECKPOINT_SECONDS
from mixcoder.experiments.sweeps.pace import checkpoint_seconds, most_waiting, news_seconds
from mixcoder.experiments.sweeps.run_state import RunState
from mixcoder.experiments.sweeps.workers import Done, Lost, Outcome

METRICS = {"step": 15_625, "inputs": 1_000_000, "training_loss": 0.0123456, "learning_rate": 0.003}
"""What a driver keeps of a run that is trained."""


@dataclass(frozen=True)
class Cluster:
    """A cluster, and what it costs to use it.

    Attributes:
        nodes: machines, each of which trains one run at a time.
        hourly_losses: the share of nodes that are lost in an hour, at random moments.
        replaced_after: seconds until a lost node is back; infinite where none comes.
        noticed_after: seconds until the driver learns of a loss.
        start_seconds: from a free node to the first training step of a run there.
        transfer_seconds: that the driver needs for one checkpoint.
        is_flooded: whether all runs are handed to the cluster at once, not as few as `pace` lets wait.
    """

    nodes: int = 1000
    hourly_losses: float = 0.01
    replaced_after: float = 600.0
    noticed_after: float = 30.0
    start_seconds: float = 15.0
    transfer_seconds: float = 0.011
    is_flooded: bool = False

    @property
    def round_seconds(self) -> float:
        """The seconds in which the driver hears all runs once."""
        return news_seconds(self.nodes)

    @property
    def saved_seconds(self) -> float:
        """The seconds between two checkpoints of a run that reach the driver."""
        return max(CHECKPOINT_SECONDS, checkpoint_seconds(self.nodes, self.transfer_seconds))


@dataclass
class _Try:
    """A run on a node.

    Attributes:
        state: of the run.
        begin: the time of its first training step here.
        trained: seconds of training that it had behind it.
    """

    state: RunState
    begin: float
    trained: float


class SimulatedNodes:
    """A `Workers` whose nodes are numbers.

    Args:
        cluster: the nodes.
        seconds: of training that each run needs, by its directory.
        seed: of the moments at which nodes are lost.
    """

    def __init__(self, cluster: Cluster, seconds: Mapping[Path, float], seed: int) -> None:
        self.cluster = cluster
        self.now = 0.0
        self.node_changes: list[tuple[float, int]] = []
        self.node_losses = self.starts = 0
        self.lost_seconds = 0.0
        self._seconds = seconds
        self._mirrored: dict[Path, float] = {}
        self._random = random.Random(seed)
        self._serial = itertools.count()
        self._events: list[tuple[float, int, str, int, _Try | None]] = []
        self._pending: deque[RunState] = deque()
        self._free: deque[int] = deque()
        self._tries: dict[int, _Try] = {}
        self._unseen = 0
        self._ended: list[tuple[RunState, Outcome]] = []
        self._finished: list[int] = []
        for node in range(cluster.nodes):
            self._add_node(0.0, node)

    @property
    def are_full(self) -> bool:
        """Returns whether all nodes are taken, and enough runs wait for one."""
        return not (self._free or self.cluster.is_flooded) and (
            len(self._pending) >= most_waiting(len(self._tries))
        )

    @property
    def are_busy(self) -> bool:
        """Returns whether a run was started whose outcome `poll` has not returned."""
        return bool(self._pending or self._tries or self._unseen)

    def start(self, state: RunState) -> None:
        """Hands a run to the cluster."""
        self._pending.append(state)
        self._place(self.now)

    def wait(self) -> None:
        """Moves the clock a round on, or to the next event where that is later; half a round on average."""
        if not self._events:
            raise RuntimeError("no node is left")
        period = self.cluster.round_seconds
        self.now = max(self.now + period, self._events[0][0] + period / 2)
        while self._events and self._events[0][0] <= self.now:
            time, _, kind, node, what = heapq.heappop(self._events)
            if kind == "up":
                self._add_node(time, node)
            elif kind == "down":
                self._lose_node(time, node)
            elif kind == "noticed" and what:
                self._ended.append((what.state, Lost(f"node {node} is gone")))
            elif kind == "end" and what and self._tries.get(node) is what:
                self._ended.append((what.state, Done()))
                self._finished.append(node)

    def poll(self) -> list[tuple[RunState, Outcome]]:
        """Returns the runs that have ended, and frees their nodes: the driver has taken in their files."""
        for node in self._finished:
            if self._tries.pop(node, None):  # else lost since
                self._free.append(node)
        ended, self._ended, self._finished = self._ended, [], []
        self._unseen -= sum(isinstance(outcome, Lost) for _, outcome in ended)
        self._place(self.now)
        return ended

    def stop(self) -> None:
        """Does nothing: the nodes are no processes."""

    def _add_node(self, time: float, node: int) -> None:
        self.node_changes.append((time, 1))
        self._free.append(node)
        if self.cluster.hourly_losses:
            life = 3600 * self._random.expovariate(-math.log1p(-self.cluster.hourly_losses))
            self._push(time + life, "down", node)
        self._place(time)

    def _lose_node(self, time: float, node: int) -> None:
        """Takes a node away, with the training of its run since the last mirrored checkpoint."""
        self.node_changes.append((time, -1))
        self.node_losses += 1
        if node in self._free:
            self._free.remove(node)
        if math.isfinite(self.cluster.replaced_after):
            self._push(time + self.cluster.replaced_after, "up", node)
        lost = self._tries.pop(node, None)
        if lost is None or node in self._finished:  # its files are here
            return
        trained = max(0.0, time - lost.begin)
        kept = trained - trained % self.cluster.saved_seconds
        self.lost_seconds += trained - kept
        self._mirrored[lost.state.directory.path] = lost.trained + kept
        self._unseen += 1
        self._push(time + self.cluster.noticed_after, "noticed", node, lost)

    def _place(self, time: float) -> None:
        """Gives runs that wait to nodes that are free."""
        while self._pending and self._free:
            node, state = self._free.popleft(), self._pending.popleft()
            path = state.directory.path
            begin = time + self.cluster.start_seconds
            attempt = _Try(state, begin, self._mirrored.get(path, 0.0))
            state.state, state.metrics = "running", dict(METRICS)
            self.starts += 1
            self._tries[node] = attempt
            self._push(begin + self._seconds[path] - attempt.trained, "end", node, attempt)

    def _push(self, time: float, kind: str, node: int, what: _Try | None = None) -> None:
        heapq.heappush(self._events, (time, next(self._serial), kind, node, what))


def ideal_seconds(node_changes: list[tuple[float, int]], work: float) -> float:
    """Returns when the nodes that were there had been up for so many seconds, all together.

    Args:
        node_changes: times at which a node came (1) or went (-1), in order.
        work: seconds of one node.
    """
    nodes, since = 0, 0.0
    for time, change in sorted(node_changes):
        if nodes * (time - since) >= work:
            break
        work -= nodes * (time - since)
        nodes, since = nodes + change, time
    return since + work / nodes
