"""Workers on the nodes of a Ray cluster.

    RunState ─▶ NodeProcess, placed by Ray ─▶ versions compared, directory locked ─▶ started
                                                                                        │
    run directory here ◀── metrics ◀── checkpoint ◀── result.json ◀───────── news ◀─────┘

Ray finds a machine and carries bytes, nothing else: each run is the process that it would be on this machine,
its directory here is the truth, and no file system is shared. What a node takes with it when it vanishes is
what the run has done since its last news.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from mixcoder.errors import (
    ClusterError,
    MixcoderError,
    MixcoderWarning,
    RunLockedError,
    first_line,
    system_reason,
)
from mixcoder.experiments.runs.stop_requests import SWEEP_VARIABLE
from mixcoder.experiments.sweeps import ray_node
from mixcoder.experiments.sweeps.mirror import read_files, write_news
from mixcoder.experiments.sweeps.outcomes import last_metrics, read_remote_outcome
from mixcoder.experiments.sweeps.pace import checkpoint_seconds, most_waiting, news_seconds
from mixcoder.experiments.sweeps.ray_connection import ClusterWatch, connect
from mixcoder.experiments.sweeps.ray_node import LATEST, News, NodeProcess, Order, describe_versions
from mixcoder.experiments.sweeps.run_state import RunState
from mixcoder.experiments.sweeps.workers import Done, Elsewhere, Failed, Lost, Outcome
from mixcoder.registry.plugins import read_plugins

_WAIT_SECONDS = 1.0
"""The longest wait for answers: progress is shown in between."""
_STOP_SECONDS = 30.0
"""The longest time for runs to save a checkpoint and end."""
_CLOSE_SECONDS = 5.0
"""The longest time for nodes to delete what they have of the runs."""


@dataclass(frozen=True)
class Resources:
    """What one run takes of a node.

    Attributes:
        cpus: cores, and threads of the run.
        gpus: a share of one, or whole ones; 0 trains on the CPU.
    """

    cpus: float
    gpus: float

    @property
    def device(self) -> str:
        """The device to train on."""
        return "cuda" if self.gpus else "cpu"


@dataclass(eq=False)
class _RemoteRun:
    """A run on its way through the cluster.

    Attributes:
        state: of the run.
        process: on its node.
        answer: that comes next.
        read: takes that answer; returns the outcome, once there is one.
        node: the name of the node, once known.
        log_start: bytes of the log before the run's own.
        lock: of the run's directory, once the run has a node.
        next_checkpoint: the time to fetch a checkpoint, as of `time.monotonic`.
    """

    state: RunState
    process: Any
    answer: Any
    read: Callable[[_RemoteRun, Any], Outcome | None]
    node: str = ""
    log_start: int = 0
    lock: ExitStack = field(default_factory=ExitStack)
    next_checkpoint: float = 0.0


class RayWorkers:
    """Runs on the nodes of a Ray cluster, each in a process of its own there.

    Args:
        address: of the cluster, HOST:PORT, or "auto" for the one that this machine belongs to.
        resources: of each run.
        jobs: runs at a time; None submits many more than there are places, so that an autoscaler sees them.
        plugins: files or modules that each process loads first; they travel with the run.

    Raises:
        ClusterError: there is no such cluster.
        PluginError: a plugin is no file and no module.
    """

    def __init__(self, address: str, resources: Resources, jobs: int | None, plugins: Sequence[str]) -> None:
        self._plugin_names, self._plugins = read_plugins(plugins)
        connect(address)
        self._resources = resources
        self._jobs = jobs
        self._watch = ClusterWatch(resources.cpus, resources.gpus)
        self._versions = describe_versions()
        self._workers: list[_RemoteRun] = []
        self._placed = 0
        self._closing: list[Any] = []
        ray.cloudpickle.register_pickle_by_value(ray_node)
        self._actor = ray.remote(NodeProcess).options(
            num_cpus=resources.cpus, num_gpus=resources.gpus, max_restarts=0, max_concurrency=2
        )

    @property
    def are_full(self) -> bool:
        """Returns whether as many runs as were asked for are on the cluster, or many wait for a place."""
        if self._jobs is not None and len(self._workers) >= self._jobs:
            return True
        waiting = len(self._workers) - self._placed
        return waiting >= most_waiting(self._placed)

    @property
    def are_busy(self) -> bool:
        """Returns whether a run was submitted whose end was not seen yet."""
        return bool(self._workers)

    def start(self, state: RunState) -> None:
        """Asks the cluster for a place for a run, which waits until it has one."""
        state.has_images_here = False
        process = self._actor.remote()
        self._workers.append(_RemoteRun(state, process, process.describe.remote(), self._begin))

    def wait(self) -> None:
        """Waits for news of a tenth of the runs."""
        answers = [worker.answer for worker in self._workers]
        if answers:
            ray.wait(answers, num_returns=max(1, len(answers) // 10), timeout=_WAIT_SECONDS)
        else:  # all runs wait for processes of others
            time.sleep(_WAIT_SECONDS)

    def poll(self) -> list[tuple[RunState, Outcome]]:
        """Brings the directories of all runs up to date; returns the runs that ended.

        Raises:
            ClusterError: a node has another Mixcoder, torch or Python, or none; or the cluster is gone.
        """
        self._watch.look(self._placed, len(self._workers) - self._placed)
        return self._read_answers()

    def _read_answers(self) -> list[tuple[RunState, Outcome]]:
        """Reads what has come from the nodes; returns the runs that ended."""
        answers = {worker.answer: worker for worker in self._workers}
        ready, _ = ray.wait(list(answers), num_returns=len(answers), timeout=0) if answers else ([], [])
        ended = []
        for answer in ready:
            worker = answers[answer]
            outcome = self._take(worker)
            if outcome:
                self._hand_over(worker, outcome)
                ended.append((worker.state, outcome))
        return ended

    def stop(self) -> None:
        """Asks all runs to save a checkpoint and end, and brings what they saved here."""
        running = [worker for worker in self._workers if worker.state.state == "running"]
        for worker in running:
            worker.process.stop.remote()
        for worker in set(self._workers) - set(running):
            self._forget(worker)
        end = time.monotonic() + _STOP_SECONDS
        while self._workers and time.monotonic() < end:
            self.wait()
            self._read_answers()
        if self._workers:
            message = f"{len(self._workers)} runs did not save a last checkpoint in {_STOP_SECONDS:g} s"
            warnings.warn(message, MixcoderWarning, stacklevel=2)
        for worker in list(self._workers):
            self._forget(worker)
        if self._closing:
            ray.wait(self._closing, num_returns=len(self._closing), timeout=_CLOSE_SECONDS)
        ray.shutdown()

    def _take(self, worker: _RemoteRun) -> Outcome | None:
        """Reads the answer of a worker, and asks for the next; returns the outcome, once there is one.

        Raises:
            ClusterError: the cluster cannot be used; what is wrong with one run is its outcome.
        """
        place = f"node {worker.node}" if worker.node else "a node"
        try:
            return worker.read(worker, ray.get(worker.answer))
        except RayTaskError as error:  # such as a disk that is full there
            return Lost(f"{_reason(error.cause)} (on {place})")
        except RayError:  # of a machine, a process or a network that is gone
            return Lost(f"{place} was lost")
        except ClusterError:
            raise
        except RunLockedError:
            return Elsewhere()
        except MixcoderError as error:
            return Failed(str(error), error.exit_status)
        except OSError as error:  # of this machine
            return Failed(_reason(error), 1)

    def _begin(self, worker: _RemoteRun, description: Mapping[str, str]) -> Outcome | None:
        """Starts a run on the node that it was placed on."""
        self._placed += not worker.node
        worker.node = description["host"]
        self._check_versions(description)
        directory = worker.state.directory
        if directory.is_locked():
            return Elsewhere()
        worker.lock.enter_context(directory.locked())
        if directory.is_done():
            return Done()
        directory.write_config(worker.state.run)
        directory.forget_failure()
        with directory.open_log() as log:
            log.write(f"on node {worker.node}\n".encode())
            worker.log_start = log.tell()
        worker.state.begin()
        worker.answer, worker.read = worker.process.start.remote(self._order(worker.state)), self._ask
        return None

    def _check_versions(self, description: Mapping[str, str]) -> None:
        """Checks that a node has what this machine has.

        Raises:
            ClusterError: names the node and what differs.
        """
        node = description["host"]
        for name, here in self._versions.items():
            there = description[name]
            if not there:
                python = description["command"]
                raise ClusterError(
                    f"node {node} has no {name}; install it for {python}, which runs Ray there"
                )
            if there != here:
                raise ClusterError(
                    f"node {node} has {name} {there}, this machine has {here}; install the same on both"
                )

    def _order(self, state: RunState) -> Order:
        path = state.directory.path
        threads = str(max(1, int(self._resources.cpus)))
        return {
            "directory": f"{path.parent.name}/{path.name}",
            "files": read_files(state.directory),
            "plugins": self._plugins,
            "plugin_names": self._plugin_names,
            "arguments": ["--device", self._resources.device],
            "environment": {"OMP_NUM_THREADS": threads},
            "parent_variable": SWEEP_VARIABLE,
        }

    def _ask(self, worker: _RemoteRun, _: object) -> None:
        """Asks for the next news of a run."""
        is_due = time.monotonic() >= worker.next_checkpoint
        seconds = news_seconds(self._placed)
        worker.answer = worker.process.news.remote(seconds, with_checkpoint=is_due)
        worker.read = self._hear

    def _hear(self, worker: _RemoteRun, news: News) -> Outcome | None:
        """Brings a run's directory up to date."""
        start, state = time.monotonic(), worker.state
        write_news(state.directory, news)
        state.metrics = last_metrics(state.directory.path) or state.metrics
        if LATEST in news["files"]:
            end = time.monotonic()
            worker.next_checkpoint = end + checkpoint_seconds(self._placed, end - start)
        status = news["status"]
        if status is None:
            self._ask(worker, news)
            return None
        outcome = read_remote_outcome(state, status, worker.log_start)
        if isinstance(outcome, Failed | Lost):
            outcome = replace(outcome, reason=f"{outcome.reason} (on node {worker.node})")
        return outcome

    def _hand_over(self, worker: _RemoteRun, outcome: Outcome) -> None:
        """Gives the place of a run that has ended to one that waits, which is sooner there than by Ray."""
        waiting = next((other for other in self._workers if not other.node), None)
        if waiting is None or isinstance(outcome, Lost):
            self._forget(worker)
            return
        ray.kill(waiting.process)
        waiting.process, waiting.node = worker.process, worker.node
        waiting.answer = waiting.process.describe.remote()
        worker.lock.close()
        self._workers.remove(worker)

    def _forget(self, worker: _RemoteRun) -> None:
        """Ends a worker; its node deletes what it has."""
        self._workers.remove(worker)
        worker.lock.close()
        self._placed -= bool(worker.node)
        if worker.node:  # Ray ends the process afterwards, as nothing refers to it any more
            self._closing = [*_unanswered(self._closing), worker.process.close.remote()]
        else:
            ray.kill(worker.process)


def _reason(error: Exception) -> str:
    return system_reason(error) if isinstance(error, OSError) else first_line(error)


def _unanswered(answers: Sequence[Any]) -> list[Any]:
    """Returns the answers that have not come yet."""
    return ray.wait(answers, num_returns=len(answers), timeout=0)[1] if answers else []
