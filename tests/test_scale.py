"""The simulation of a large sweep: nodes and runs add up, no run is lost, the makespan is near the ideal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from benchmarks.rank_scaling import SHARDS, LonelyRank, Model, Network
from benchmarks.scale import Scenario, make_experiment, run_madds, run_seconds, scenarios, simulate
from benchmarks.simulated_nodes import Cluster, SimulatedNodes, ideal_seconds

from mixcoder.experiments.file.spec import Experiment
from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.experiments.sweeps.run_state import RunState
from mixcoder.experiments.sweeps.sweep import train_all
from tests.conftest import slow

SMALL = Cluster(nodes=20, hourly_losses=0.2)
SEED = 1


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    return make_experiment(tmp_path_factory.mktemp("scale"), 200)


def train(
    experiment: Experiment, cluster: Cluster, hours: float
) -> tuple[SimulatedNodes, Sequence[RunState]]:
    """All runs on a cluster, each for so long."""
    states = list(map(RunState, experiment.runs, RunDirectory.of_all(experiment.runs, Path("runs"))))
    nodes = SimulatedNodes(cluster, {state.directory.path: 3600 * hours for state in states}, seed=3)
    train_all(states, nodes, lambda states: None)
    return nodes, states


def test_the_ideal_counts_the_nodes_that_are_there() -> None:
    assert ideal_seconds([(0, 1)] * 4, 100) == 25
    assert ideal_seconds([*[(0.0, 1)] * 4, (10, -1), (10, -1), (20, 1)], 100) == pytest.approx(20 + 40 / 3)
    assert ideal_seconds([(0, 1), (5, -1), (8, 1)], 10) == 13


def test_without_losses_each_node_trains_one_run_after_the_other(experiment: Experiment) -> None:
    """The makespan is ten runs, their starts, and half a round until the end of each is seen."""
    cluster = replace(SMALL, hourly_losses=0.0)
    nodes, states = train(experiment, cluster, hours=1)
    assert {state.state for state in states} == {"done"}
    assert (nodes.starts, nodes.node_losses, nodes.lost_seconds) == (200, 0, 0)
    assert nodes.now == pytest.approx(10 * (3600 + cluster.start_seconds + 1 / 2), abs=2)


def test_lost_nodes_cost_what_was_not_mirrored_and_a_start(experiment: Experiment) -> None:
    nodes, states = train(experiment, SMALL, hours=1)
    assert {state.state for state in states} == {"done"}
    assert nodes.node_losses > 20
    lost_runs = nodes.starts - 200
    assert 20 < lost_runs <= nodes.node_losses
    assert 0 < nodes.lost_seconds <= lost_runs * SMALL.saved_seconds
    ideal = ideal_seconds(nodes.node_changes, 200 * 3600)
    assert ideal < nodes.now < 1.3 * ideal


def test_checkpoints_that_are_too_large_to_mirror_often_cost_more(experiment: Experiment) -> None:
    small, _ = train(experiment, SMALL, hours=1)
    large, _ = train(experiment, replace(SMALL, transfer_seconds=10), hours=1)
    assert large.lost_seconds > 10 * small.lost_seconds


def test_a_run_that_loses_every_node_fails_and_the_others_go_on(experiment: Experiment) -> None:
    """Runs of ten hours on nodes that live for about one, whose checkpoints never arrive."""
    cluster = replace(SMALL, hourly_losses=0.6, transfer_seconds=10_000)
    nodes, states = train(experiment, cluster, hours=10)
    failed = [state for state in states if state.state == "failed"]
    assert len(failed) > 100
    assert all(state.reason.startswith("lost 6 times, the last time because node ") for state in failed)
    assert nodes.starts <= 6 * len(states)


def test_a_sweep_without_nodes_does_not_wait_for_ever(experiment: Experiment) -> None:
    with pytest.raises(RuntimeError, match="no node is left"):
        train(experiment, replace(SMALL, hourly_losses=0.9, replaced_after=math.inf), hours=10)


def test_lengths_are_an_hour_on_average_and_differ_by_a_factor_of_several(experiment: Experiment) -> None:
    seconds = run_seconds(run_madds(experiment), is_equal=False, seed=SEED)
    assert sum(seconds) / len(seconds) == pytest.approx(3600)
    assert max(seconds) > 4 * min(seconds)


@pytest.mark.parametrize("runs", [200, pytest.param(10_000, marks=slow)])
def test_a_sweep_whose_longest_runs_start_first_is_near_the_ideal(runs: int, tmp_path: Path) -> None:
    """With a node of a hundred lost an hour, no run is lost; in the order of the file, it takes longer."""
    cluster = Cluster(nodes=runs // 10)
    experiment = make_experiment(tmp_path, runs)
    madds = run_madds(experiment)
    longest_first = simulate(experiment, madds, Scenario("", cluster, is_longest_first=True), tmp_path, SEED)
    in_file_order = simulate(experiment, madds, Scenario("", cluster), tmp_path, SEED)
    for found in (longest_first, in_file_order):
        assert found.failed == 0
        assert found.starts >= len(experiment.runs) == runs
    assert 0 < longest_first.excess < 0.05
    assert longest_first.excess < in_file_order.excess < 0.2


def test_runs_that_are_all_submitted_at_once_start_again_behind_all_others(tmp_path: Path) -> None:
    experiment, cluster = make_experiment(tmp_path, 1000), Cluster(nodes=100)
    madds = run_madds(experiment)
    some, all_at_once = (
        simulate(experiment, madds, Scenario("", each, is_longest_first=True), tmp_path, SEED)
        for each in (cluster, replace(cluster, is_flooded=True))
    )
    assert some.excess + 0.05 < all_at_once.excess


def test_every_scenario_trains_all_runs(experiment: Experiment) -> None:
    for scenario in scenarios(Cluster(nodes=20)):
        assert simulate(experiment, run_madds(experiment), scenario, Path("runs"), SEED).failed == 0, scenario


def test_a_ring_sends_each_element_twice_whatever_the_number_of_ranks() -> None:
    assert Network(latency=1, rate=math.inf).all_reduce_seconds(10, ranks=4) == 6
    assert Network(latency=0, rate=4).all_reduce_seconds(300, ranks=3) == 400
    assert Network(latency=0, rate=4).all_reduce_seconds(300, ranks=1) == 0


def test_ranks_share_a_batch_and_pay_for_the_sum() -> None:
    seconds = tuple(float(images) for images in SHARDS)
    free, dear = Network(latency=0, rate=math.inf), Network(latency=1, rate=math.inf)
    model = Model("linear", 1, seconds, seconds)
    assert model.speed_up(2048, 8, free) == 8
    assert model.speed_up(64, 64, dear) == 64 / (1 + 126)


def test_the_step_of_a_rank_is_another_than_that_of_one_process() -> None:
    seconds = tuple(float(images) for images in SHARDS)
    model = Model("linear", 1, seconds, tuple(2 * each for each in seconds))
    assert model.speed_up(1024, 8, Network(latency=0, rate=math.inf)) == 4


def test_a_lonely_rank_weights_its_gradients() -> None:
    gradients = torch.ones(3)
    LonelyRank().reduction(0.5)(gradients)
    assert gradients.tolist() == [0.5] * 3
    assert LonelyRank().shard(64) == slice(0, 64)


def test_equal_runs_cost_little_but_where_nodes_are_lost(experiment: Experiment) -> None:
    lossless, lossy = (
        simulate(experiment, run_madds(experiment), Scenario("", each, is_equal=True), Path("runs"), SEED)
        for each in (replace(SMALL, hourly_losses=0.0), SMALL)
    )
    assert 0 < lossless.excess < 0.006 < lossy.excess
