"""A sweep of 10,000 runs on 1,000 nodes: the real scheduling on simulated nodes, some of which are lost.

    python -m benchmarks.scale [--hourly-losses 0.01] [--start-seconds 15] [--transfer-seconds 0.011] …

    an experiment file with a matrix ─▶ read_experiment ─▶ train_all ─▶ SimulatedNodes ─▶ makespan, work lost

A run trains in proportion to the multiply-adds of its model, for an hour on average, up to a tenth more or
less by chance. The ideal is the moment at which the nodes that were there, all together, had been up for as
long as the runs train: no start, no wait, nothing lost, no node idle at the end. Each case is computed with
several seeds of chance: a figure is their median. `benchmarks.cluster_costs` measures what a cluster costs.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.console import Console

from benchmarks.simulated_nodes import Cluster, SimulatedNodes, ideal_seconds
from mixcoder.cli.progress import sweep_progress
from mixcoder.experiments.file.spec import Experiment, read_experiment
from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.experiments.sweeps.run_order import longest_first
from mixcoder.experiments.sweeps.run_state import RunState
from mixcoder.experiments.sweeps.sweep import train_all
from mixcoder.models.cost import count_madds

EXPERIMENT = """\
name: scale
data: {source: digits}
model:
  type: mixer
  patch_size: 2
  hidden_channels: ${size}
  latent_dim: 8
  mixer_at: [1]
  mixer: cnn
training: {inputs: 1_000_000, learning_rate: "${rate}", seed: "${seed}"}
matrix:
  size: [[24, 24], [36, 36], [48, 48], [64, 64]]
  rate: [0.001, 0.002, 0.003, 0.005, 0.01]
  seed: SEEDS
"""
RUNS_A_SEED = 20
SEEDS = (1, 2, 3, 4, 5)
"""Of the losses, and of the chance in the lengths of runs."""


@dataclass(frozen=True)
class Scenario:
    """A case of the simulation.

    Attributes:
        name: in words.
        cluster: the nodes.
        is_longest_first: whether runs start in the order of their lengths, not in that of the file.
        is_equal: whether all runs take an hour.
    """

    name: str
    cluster: Cluster
    is_longest_first: bool = False
    is_equal: bool = False


@dataclass(frozen=True)
class Outcomes:
    """A result of a simulation; times in seconds."""

    ideal: float
    makespan: float
    lost: float
    node_losses: int
    starts: int
    failed: int
    processor: float

    @property
    def excess(self) -> float:
        """The makespan above the ideal, as a share of the ideal."""
        return self.makespan / self.ideal - 1


def make_experiment(folder: Path, runs: int, *overrides: str) -> Experiment:
    """A matrix of about so many runs, read from its file as `mixcoder run` does."""
    seeds = list(range(max(1, runs // RUNS_A_SEED)))
    path = folder / "scale.yml"
    path.write_text(EXPERIMENT.replace("SEEDS", str(seeds)))
    return read_experiment(path, overrides)


def run_madds(experiment: Experiment) -> list[int]:
    """The multiply-adds of an image in each run; each model is counted once."""
    known: dict[str, int] = {}
    for run in experiment.runs:
        if repr(run.model) not in known:
            with torch.device("meta"):
                known[repr(run.model)] = count_madds(run.create_model())
    return [known[repr(run.model)] for run in experiment.runs]


def run_seconds(madds: Sequence[int], is_equal: bool, seed: int) -> list[float]:
    """How long each run trains: an hour on average."""
    chance = random.Random(seed)
    lengths = [1.0 if is_equal else count * chance.uniform(0.9, 1.1) for count in madds]
    scale = 3600 * len(lengths) / sum(lengths)
    return [length * scale for length in lengths]


def simulate(
    experiment: Experiment, madds: Sequence[int], scenario: Scenario, runs: Path, seed: int
) -> Outcomes:
    """Trains all runs of an experiment on the nodes of a scenario."""
    states = list(map(RunState, experiment.runs, RunDirectory.of_all(experiment.runs, runs)))
    seconds = run_seconds(madds, scenario.is_equal, seed)
    by_directory = {state.directory.path: length for state, length in zip(states, seconds, strict=True)}
    nodes = SimulatedNodes(scenario.cluster, by_directory, seed)
    start = time.process_time()
    train_all(states, nodes, lambda states: None, longest_first if scenario.is_longest_first else list)
    return Outcomes(
        ideal=ideal_seconds(nodes.node_changes, sum(seconds)),
        makespan=nodes.now,
        lost=nodes.lost_seconds,
        node_losses=nodes.node_losses,
        starts=nodes.starts,
        failed=sum(state.state != "done" for state in states),
        processor=time.process_time() - start,
    )


def scenarios(cluster: Cluster) -> list[Scenario]:
    """The stated one, and harder ones."""
    cases = {
        "1 % of nodes lost an hour": cluster,
        "no losses": replace(cluster, hourly_losses=0.0),
        "10 % an hour": replace(cluster, hourly_losses=0.1),
        "1 % an hour, none replaced": replace(cluster, replaced_after=math.inf),
        "1 % an hour, all runs submitted at once": replace(cluster, is_flooded=True),
        "1 % an hour, checkpoints of 52 MB": replace(cluster, transfer_seconds=0.2),
    }
    in_file_order = [Scenario(name, each) for name, each in cases.items()]
    longest_first = [replace(each, is_longest_first=True) for each in in_file_order]
    equal = [Scenario(f"{each.name}, equal runs", each.cluster, is_equal=True) for each in in_file_order[:3]]
    return [*longest_first, *in_file_order, *equal]


def resident_mebibytes(process: int | str = "self") -> float:
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _observer_seconds(states: Sequence[RunState]) -> float:
    """How long the driver's progress takes, which is shown several times a second."""
    with sweep_progress(Console(file=StringIO())) as observer:
        observer(states)
        start = time.perf_counter()
        observer(states)
        return time.perf_counter() - start


def print_driver(experiment: Experiment, before: float, seconds: float) -> None:
    """Prints what the driver of so many runs needs."""
    states = list(map(RunState, experiment.runs, RunDirectory.of_all(experiment.runs, Path("runs"))))
    shown = 1000 * _observer_seconds(states)
    memory = resident_mebibytes() - before
    print(f"{len(states):,} runs read and checked in {seconds:.1f} s; progress shown in {shown:.1f} ms")
    print(f"memory of the driver: {before:.0f} MiB before, {memory:.0f} MiB for the runs\n")


def print_scenarios(experiment: Experiment, cluster: Cluster, folder: Path) -> None:
    """Prints a line for each scenario."""
    start = time.perf_counter()
    madds = run_madds(experiment)
    print(
        f"multiply-adds of {sorted(set(madds))}, counted in {time.perf_counter() - start:.1f} s\n{cluster}\n"
    )
    names = ["ideal (h)", "makespan (h)", "above the ideal", "from … to", "nodes lost", "starts"]
    names += ["work lost (h)", "runs failed", "CPU (s)"]
    print(f"| scenario | order | {' | '.join(names)} |")
    print("|---|---|" + "---:|" * len(names))
    for scenario in scenarios(cluster):
        found = [simulate(experiment, madds, scenario, folder, seed) for seed in SEEDS]
        order = "longest first" if scenario.is_longest_first else "file"
        print(f"| {scenario.name} | {order} | {' | '.join(_figures(found))} |", flush=True)


def _figures(found: Sequence[Outcomes]) -> list[str]:
    """Returns the columns of a scenario: medians, and the range of what is above the ideal."""

    def median(name: str) -> float:
        return float(statistics.median(getattr(each, name) for each in found))

    excesses = [each.excess for each in found]
    return [
        f"{median('ideal') / 3600:.2f}",
        f"{median('makespan') / 3600:.2f}",
        f"{median('excess'):+.1%}",
        f"{min(excesses):+.1%} to {max(excesses):+.1%}",
        f"{median('node_losses'):,.0f}",
        f"{median('starts'):,.0f}",
        f"{median('lost') / 3600:.2f}",
        f"{median('failed'):.0f}",
        f"{median('processor'):.1f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000)
    for field in fields(Cluster):
        if isinstance(field.default, bool):  # a case of `scenarios`
            continue
        option = f"--{field.name.replace('_', '-')}"
        parser.add_argument(option, type=type(field.default), default=field.default)
    options = vars(parser.parse_args())
    runs = options.pop("runs")
    before, start = resident_mebibytes(), time.perf_counter()
    with TemporaryDirectory() as folder:
        experiment = make_experiment(Path(folder), runs)
        print_driver(experiment, before, time.perf_counter() - start)
        print_scenarios(experiment, Cluster(**options), Path(folder))


if __name__ == "__main__":
    main()
