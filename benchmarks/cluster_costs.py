"""What a Ray cluster costs: how long a run takes to start there, what an answer and a byte take, memory.

    python -m benchmarks.cluster_costs [--submitted 1000 4000]

    two nodes of one core on this machine ─▶ RayWorkers, NodeRun ─▶ seconds, bytes a second, kibibytes

The figures are those that `benchmarks.scale` takes. Network and disk are this machine's own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray
from ray.cluster_utils import Cluster as LocalCluster

from benchmarks.scale import make_experiment, resident_mebibytes
from benchmarks.simulated_nodes import METRICS
from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.experiments.sweeps.mirror import write_news
from mixcoder.experiments.sweeps.outcomes import last_metrics
from mixcoder.experiments.sweeps.ray_node import NodeRun
from mixcoder.experiments.sweeps.ray_workers import RayWorkers, Resources
from mixcoder.experiments.sweeps.run_state import RunState

LINE = f"{json.dumps(METRICS)}\n".encode()
"""Of metrics, as a run writes them."""
NODES = 2
STEPS = 10
"""Of a run that is soon over: its start is what takes time."""


class SilentRun(NodeRun):
    """A run that trains nothing, whose files are written by hand; its news are the real ones."""

    def __init__(self) -> None:
        self._open()
        self._directory = self._folder / "run"
        (self._directory / "checkpoint").mkdir(parents=True)
        (self._folder / "output").touch()
        self._process = subprocess.Popen(["sleep", "3600"])

    def train(self) -> None:
        """Writes a line of metrics."""
        with (self._directory / "metrics.jsonl").open("ab") as file:
            file.write(LINE)

    def save(self, size: int) -> None:
        """Writes a checkpoint of so many bytes."""
        new = self._directory / "checkpoint" / ".new"
        new.write_bytes(os.urandom(size))
        new.rename(self._directory / "checkpoint" / "latest.safetensors")


@contextmanager
def local_cluster() -> Iterator[LocalCluster]:
    """A head without cores, and two nodes of one."""
    cluster = LocalCluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(NODES):
            cluster.add_node(num_cpus=1)
        yield cluster
    finally:
        cluster.shutdown()


def print_starts(workers: RayWorkers, states: list[RunState]) -> None:
    """Prints how long runs of a few steps take that start alone, in new processes of Ray."""
    placed: list[float] = []
    done: list[float] = []
    for state in states:
        start = time.perf_counter()
        workers.start(state)
        while state.state != "running":
            workers.wait()
            workers.poll()
        placed.append(time.perf_counter() - start)
        done += [end - start for end in _ends(workers)]
    print(f"from submit to a started process: {_median(placed)} s")
    print(f"from submit to the end of a run of {STEPS} steps: {_median(done)} s")


def print_later_starts(workers: RayWorkers, states: list[RunState]) -> None:
    """Prints how long runs of a few steps take that nodes train one after the other."""
    for state in states:
        workers.start(state)
    ends = list(_ends(workers))
    later = [end - before for before, end in zip(ends, ends[NODES:], strict=False)]
    print(f"from the end of a run to that of the next on its node: {_median(later)} s")


def _ends(workers: RayWorkers) -> Iterator[float]:
    """Yields the moments at which runs end, until all have."""
    while workers.are_busy:
        workers.wait()
        for _ in workers.poll():
            yield time.perf_counter()


def print_news(folder: Path) -> None:
    """Prints what the driver needs for an answer, and for the bytes of a checkpoint."""
    directory = RunDirectory(folder / "news")
    directory.path.mkdir()
    process: Any = ray.remote(SilentRun).options(num_cpus=1).remote()
    walls, processors = [], []
    for _ in range(300):
        ray.get(process.train.remote())
        answer = process.news.remote(0.0, with_checkpoint=False)
        ray.wait([answer])
        start, processor = time.perf_counter(), time.process_time()
        write_news(directory, ray.get(answer))
        last_metrics(directory.path)
        process.news.remote(0.0, with_checkpoint=False)  # as the driver asks at once for the next
        walls.append(1000 * (time.perf_counter() - start))
        processors.append(1000 * (time.process_time() - processor))
    print(
        f"an answer with a line of metrics: {_median(walls)} ms, of which {_median(processors)} ms processor"
    )
    for size in (500_000, 52_000_000):
        seconds = []
        for _ in range(10):
            ray.get(process.save.remote(size))
            start = time.perf_counter()
            write_news(directory, ray.get(process.news.remote(0.0, with_checkpoint=True)))
            seconds.append(time.perf_counter() - start)
        rate = size / statistics.median(seconds) / 1e6
        print(f"a checkpoint of {size / 1e6:g} MB: {_median(seconds)} s, {rate:.0f} MB/s")
    ray.get(process.close.remote())
    ray.kill(process)


def print_descriptors() -> None:
    """Prints how many files and connections the driver holds open for each process that it talks to."""
    actor: Any = ray.remote(SilentRun).options(num_cpus=0.1)
    before = _open_descriptors()
    processes = [actor.remote() for _ in range(10)]
    ray.get([process.train.remote() for process in processes])
    each = (_open_descriptors() - before) / len(processes)
    print(f"open files and connections for each process: {each:.1f}, and the lock of its run")
    ray.get([process.close.remote() for process in processes])
    for process in processes:
        ray.kill(process)


def _open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def print_submitted(workers: RayWorkers, states: list[RunState], gcs: int) -> None:
    """Prints what runs cost that wait for a place."""
    before, gcs_before, start = resident_mebibytes(), resident_mebibytes(gcs), time.perf_counter()
    for state in states:
        workers.start(state)
    submitted = time.perf_counter() - start
    time.sleep(10)
    looks, processors = [], []
    for _ in range(10):
        start, processor = time.perf_counter(), time.process_time()
        workers.poll()
        looks.append(1000 * (time.perf_counter() - start))
        processors.append(1000 * (time.process_time() - processor))
    memory, gcs_memory = resident_mebibytes() - before, resident_mebibytes(gcs) - gcs_before
    print(
        f"{len(states):,} runs submitted in {submitted:.1f} s; a look at all {_median(looks)} ms "
        f"({_median(processors)} ms processor); {1024 * memory / len(states):.0f} KiB a run here, "
        f"{1024 * gcs_memory / len(states):.0f} KiB in Ray's head",
        flush=True,
    )


def _median(values: list[float]) -> str:
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--submitted", type=int, nargs="*", default=[1000, 4000])
    parser.add_argument("--starts", type=int, default=5)
    options = parser.parse_args()
    with TemporaryDirectory() as name, local_cluster() as cluster:
        folder = Path(name)
        runs = make_experiment(
            folder, sum(options.submitted) + 4 * options.starts, f"training.inputs={64 * STEPS}"
        ).runs
        states = map(RunState, runs, RunDirectory.of_all(runs, folder / "runs"))
        workers = RayWorkers(cluster.address, Resources(1, 0), None, [])
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        print_starts(workers, list(islice(states, options.starts)))
        print_later_starts(workers, list(islice(states, 2 * options.starts)))
        print_news(folder)
        print_descriptors()
        gcs = cluster.head_node.all_processes["gcs_server"][0].process.pid
        for count in options.submitted:
            print_submitted(workers, list(islice(states, count)), gcs)
        start = time.perf_counter()
        workers.stop()
        print(f"stopped in {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
