"""A sweep on a real Ray cluster: a head and two nodes on this machine, killed and started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from safetensors.torch import load_file

from mixcoder.io.safetensors_file import read_metadata
from tests.conftest import slow
from tests.experiments.searches.inline import SEARCH
from tests.ray_cluster import ENVIRONMENT, RayCluster

pytestmark = slow
SOON = 15
"""Seconds: three times what a quiet machine needs at most, as other tests take its cores meanwhile."""
NEEDS_RAY = "needs Ray: pip install 'mixcoder[ray]'"

FILE = """\
name: mine
data: {source: digits}
model:
  type: mixer
  patch_size: 4
  hidden_channels: [9]
  latent_dim: 3
  mixer_at: [1]
  mixer: own
training: {learning_rate: "${rate}", inputs: 30_000, validations: 3, seed: "${seed}"}
matrix: {rate: [0.01, 0.02, 0.03], seed: [0, 1]}
"""
PLUGIN = """\
import mixcoder, os, time, torch
from mixcoder.experiments.runs import training_run

training_run.CHECKPOINT_SECONDS = 0.3  # so that there is much to lose soon

@mixcoder.register_mixer("own")
class Own(mixcoder.MixingLayer):
    '''A layer that no node has but by its file.'''

    def __init__(self, grid, channels, kernel_size):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.ones(channels))

    def mix(self, x):
        time.sleep(0)
        return x * self.weights + x.mean(1, keepdim=True)
"""
TWO = "matrix.rate=[0.01]"


def slow_down(project: Path) -> Path:
    """Lets a run take half a minute, also on a fast machine, until the file that is returned is deleted."""
    slow = project / "slow"
    slow.touch()
    seconds = f"0.03 if os.path.exists({str(slow)!r}) else 0"
    (project / "own.py").write_text(PLUGIN.replace("sleep(0)", f"sleep({seconds})"))
    return slow


OTHER_TORCH = """\
import importlib.metadata as m
version = m.version
m.version = lambda name: "1.2.3" if name == "torch" else version(name)
"""
NO_MIXCODER = """\
from importlib.machinery import PathFinder
find_spec = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name == "mixcoder" else find_spec(name, *rest)
"""


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[RayCluster]:
    """A cluster of a head and two nodes of one CPU; a test that kills a node adds another."""
    pytest.importorskip("ray", reason=NEEDS_RAY)
    with TemporaryDirectory(prefix="ray", dir="/tmp") as folder:
        cluster = RayCluster(Path(folder), nodes=2)
        yield cluster
        cluster.close()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_project(tmp_path)
    return tmp_path


def write_project(folder: Path) -> None:
    (folder / "x.yml").write_text(FILE)
    (folder / "own.py").write_text(PLUGIN)


@contextmanager
def started(project: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A sweep in a process of its own, which is gone at the end."""
    command = [sys.executable, "-m", "mixcoder", "--plugin", "own.py", "run", "x.yml", *arguments]
    process = subprocess.Popen(
        command, cwd=project, env={**os.environ, **ENVIRONMENT}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def swept(project: Path, *arguments: str) -> str:
    """Runs a sweep to its end; returns what it told."""
    with started(project, *arguments) as process:
        _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return err


def outcomes(runs: Path) -> dict[str, bytes]:
    """What equal runs have to the byte; of the best weights, the tensors."""
    names = ("model.safetensors", "model.json", "metrics.jsonl", "config.yml")
    found: dict[str, bytes] = {}
    for path in runs.glob("mine/*"):
        found |= {f"{path.name}/{name}": (path / name).read_bytes() for name in names}
        best = load_file(path / "checkpoint" / "best.safetensors")
        found[f"{path.name}/best"] = b"".join(best[name].numpy().tobytes() for name in sorted(best))
    return found


def wait_until(holds: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def checkpoints(runs: Path) -> list[Path]:
    return list(runs.glob("mine/*/checkpoint/latest.safetensors"))


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The six runs as this machine trains them."""
    folder = tmp_path_factory.mktemp("calm")
    write_project(folder)
    swept(folder, "-j", "2")
    return outcomes(folder / "runs")


def of_first_rate(calm: dict[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in calm.items() if "rate-0.01" in name}


def processes_on_nodes(cluster: RayCluster) -> list[str]:
    """The command lines of all processes that train in a folder of a node of this cluster."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_text()
        except OSError:
            continue
        if f"{cluster.folder}/tmp/mixcoder-run-" in words:
            found.append(words.replace("\0", " "))
    return found


def test_six_runs_are_those_of_this_machine(
    ray_cluster: RayCluster, project: Path, calm: dict[str, bytes]
) -> None:
    err = swept(project, "--cluster", ray_cluster.address)
    assert err.count("running: ") == err.count("done: ") == 6
    assert len(calm) == 6 * 5
    assert outcomes(project / "runs") == calm
    for log in project.glob("runs/mine/*/log.txt"):
        assert log.read_text().splitlines()[0].startswith("on node ")


def test_a_search_runs_there_too(ray_cluster: RayCluster, project: Path) -> None:
    """Its next run is asked for when a node has taken the one before."""
    pytest.importorskip("optuna")
    (project / "x.yml").write_text(SEARCH)
    short = ["search.trials=3", "search.keep=0.4", "search.finalists=1", "search.seeds=[3]"]
    err = swept(project, "--cluster", ray_cluster.address, *short)
    names = [path.parent.name for path in project.glob("runs/tried/*/result.json")]
    rungs = [name.partition("_rung-")[2].partition("_")[0] for name in names]
    assert sorted(rungs) in (["1", "1", "1", "2", "final"], ["1", "1", "1", "2", "2", "final"])
    assert err.count("done: ") == len(names)
    for log in project.glob("runs/tried/*/log.txt"):
        assert log.read_text().splitlines()[0].startswith("on node ")


def test_a_node_that_vanishes_takes_nothing_with_it(
    ray_cluster: RayCluster, project: Path, calm: dict[str, bytes]
) -> None:
    slow = slow_down(project)
    with started(project, "--cluster", ray_cluster.address, TWO) as sweep:
        wait_until(lambda: len(checkpoints(project / "runs")) == 2)
        ray_cluster.kill_node(1)
        ray_cluster.add_node(num_cpus=1)
        slow.unlink()
        _, err = sweep.communicate(timeout=120)
    assert sweep.returncode == 0, err
    assert "was lost; goes on from its last checkpoint" in err
    assert outcomes(project / "runs") == of_first_rate(calm)
    logs = [log.read_text() for log in project.glob("runs/mine/*/log.txt")]
    assert sorted(log.count("on node ") for log in logs) == [1, 2]


def test_a_killed_sweep_and_an_interrupted_one_go_on(
    ray_cluster: RayCluster, project: Path, calm: dict[str, bytes]
) -> None:
    """After a kill no process is left soon; after a Ctrl-C the last checkpoints are here soon."""
    slow = slow_down(project)
    command = ("--cluster", ray_cluster.address, TWO)
    with started(project, *command) as sweep:
        wait_until(lambda: len(checkpoints(project / "runs")) == 2)
        assert len(processes_on_nodes(ray_cluster)) == 2
        sweep.kill()
        wait_until(lambda: not processes_on_nodes(ray_cluster), seconds=SOON)
    before = [path.read_bytes() for path in checkpoints(project / "runs")]
    with started(project, *command) as sweep:
        wait_until(lambda: all(path.read_bytes() not in before for path in checkpoints(project / "runs")))
        start = time.monotonic()
        sweep.send_signal(signal.SIGINT)
        _, err = sweep.communicate(timeout=60)
        assert time.monotonic() - start < SOON
    slow.unlink()
    assert sweep.returncode == 1
    assert err.splitlines()[-1] == "error: interrupted; the same command goes on from there"
    for path in checkpoints(project / "runs"):
        step = json.loads(read_metadata(path, "")["state"])["step"]
        last_words = (path.parents[1] / "log.txt").read_text().splitlines()[-1]
        assert f"interrupted after {step * 64:,} inputs" in last_words
    assert swept(project, *command).count("running: ") == 2
    assert outcomes(project / "runs") == of_first_rate(calm)


def test_a_resource_that_no_node_has_is_named_and_waited_for(ray_cluster: RayCluster, project: Path) -> None:
    with started(project, "--cluster", ray_cluster.address, "--gpus", "0.5", "--cpus", "2", TWO) as sweep:
        assert sweep.stderr is not None
        line = sweep.stderr.readline()
        sweep.send_signal(signal.SIGINT)
        _, err = sweep.communicate(timeout=30)
    assert line == "note: waiting: no node has 2 CPU and 0.5 GPU; nodes may join, Ctrl-C gives up\n"
    assert err.splitlines()[-1] == "error: interrupted; the same command goes on from there"


@pytest.mark.parametrize(
    ("hides", "expected"),
    [(OTHER_TORCH, "has torch 1.2.3, this machine has "), (NO_MIXCODER, "has no mixcoder; install it for ")],
    ids=["another torch", "no mixcoder"],
)
def test_a_node_with_other_packages_is_refused(
    ray_cluster: RayCluster, project: Path, hides: str, expected: str
) -> None:
    """Its Python starts with a module of the test's, which hides what is installed."""
    (project / "node").mkdir()
    (project / "node" / "sitecustomize.py").write_text(hides)
    node = ray_cluster.add_node(num_cpus=1, num_gpus=1, env_vars={"PYTHONPATH": str(project / "node")})
    try:
        with started(project, "--cluster", ray_cluster.address, "--gpus", "1", TWO) as sweep:
            _, err = sweep.communicate(timeout=60)
    finally:
        ray_cluster.kill_node(node)
    assert sweep.returncode == 2
    assert err.startswith("error: node ")
    assert expected in err


def test_an_address_without_a_cluster_is_refused_at_once(project: Path) -> None:
    pytest.importorskip("ray", reason=NEEDS_RAY)
    with started(project, "--cluster", "127.0.0.1:1") as sweep:
        _, err = sweep.communicate(timeout=60)
    assert sweep.returncode == 2
    assert err.startswith("error: --cluster 127.0.0.1:1: no Ray cluster answers there; ")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_four_runs_share_a_gpu(ray_cluster: RayCluster, project: Path) -> None:
    node = ray_cluster.add_node(num_cpus=4, num_gpus=1)
    four = ["matrix.rate=[0.01, 0.02]", "--gpus", "0.25", "-j", "4"]
    try:
        err = swept(project, "--cluster", ray_cluster.address, *four)
    finally:
        ray_cluster.kill_node(node)
    assert [line.partition(":")[0] for line in err.splitlines()] == ["running"] * 4 + ["done"] * 4
    results = [json.loads(path.read_text()) for path in project.glob("runs/mine/*/result.json")]
    assert [result["hardware"]["device"] for result in results] == [torch.cuda.get_device_name()] * 4
