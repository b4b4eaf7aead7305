"""Runs that do not fit into memory: refused before they begin, told of on the way."""

from __future__ import annotations

import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from mixcoder.errors import ArgumentError, TrainingError
from mixcoder.experiments.file.spec import Run, read_experiment
from mixcoder.experiments.runs.memory_check import check_memory, reraise_oom
from mixcoder.io import memory_limits
from mixcoder.training.memory_estimate import training_bytes
from mixcoder.training.ranks import Ranks
from tests.conftest import Cli, slow

WIDE = "model.hidden_channels=[50_000]"
CPU = torch.device("cpu")
SWEEP = """\
name: mine
data: {source: digits}
model: {type: mixer, patch_size: 4, hidden_channels: [8], latent_dim: 2}
training: {steps: 1, batch_size: "${size}"}
matrix: {size: [8, 1_000_000]}
"""


@pytest.fixture(autouse=True)
def _sweep_file(tmp_path: Path) -> None:
    (tmp_path / "x.yml").write_text(SWEEP)


def run_with(size: int = 8, *overrides: str) -> Run:
    return read_experiment(Path("x.yml"), [f"matrix.size=[{size}]", *overrides]).runs[0]


@contextmanager
def memory_limit(more: int) -> Iterator[None]:
    """This process may take so many bytes more."""
    [held] = re.findall(r"VmSize:\s+(\d+) kB", Path("/proc/self/status").read_text())
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (int(held) * 1024 + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_a_batch_that_would_fit_is_advised(cli: Cli) -> None:
    run = run_with(1_000_000)
    needed = training_bytes(run.create_model, run.recipe)
    with memory_limit(needed // 3), pytest.raises(ArgumentError) as caught:
        check_memory(run, CPU)
    said = str(caught.value)
    assert "to train a mixer of 442 parameters with batches of 1,000,000 images takes " in said
    assert " GB within ulimit -v; try a training.batch_size of 125,000" in said
    with memory_limit(needed // 3):
        check_memory(run_with(125_000), CPU)


def test_the_ranks_of_a_machine_share_its_memory(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    run, half = run_with(1_000_000), run_with(500_000)
    ranks = Ranks()
    ranks.count = ranks.count_here = 2
    needed = training_bytes(run.create_model, half.recipe)
    held = 10**8  # bytes of this process, whatever other tests have left
    monkeypatch.setattr(memory_limits, "_own_bytes", lambda kind: held)
    monkeypatch.setattr(memory_limits, "_machine_bytes", lambda: needed + held)
    monkeypatch.setattr(memory_limits, "control_group_limits", lambda *_: [])
    check_memory(half, CPU)
    with pytest.raises(ArgumentError) as caught:
        check_memory(run, CPU, ranks=ranks)
    said = str(caught.value)
    assert "with batches of 1,000,000 images takes " in said
    assert re.search(
        r" GB of memory in each of 2 processes and there are [\d.]+ GB on this machine for each of them; "
        r"try a training.batch_size of [\d,]+$",
        said,
    )


def test_where_no_batch_would_fit_the_model_is_named(cli: Cli) -> None:
    run = run_with(8, "model.hidden_channels=[400_000, 400_000]")
    with pytest.raises(ArgumentError) as caught:
        check_memory(run, CPU)
    assert (
        "; try a smaller model.hidden_channels or model.latent_dim (160,000,000,000 parameters are in "
        in str(caught.value)
    )


@slow
def test_a_plan_refuses_what_cannot_fit_and_names_the_run(cli: Cli) -> None:
    status, out, err = cli("plan", "x.yml", WIDE)
    assert (status, out) == (2, "")
    assert err.startswith(
        "error: size=1000000: to train a mixer of 2,650,018 parameters with batches of 1,000,000 images "
    )
    assert re.search(r"; try a training.batch_size of [\d,]+\n$", err)


def test_a_run_refuses_it_too_and_leaves_nothing(cli: Cli) -> None:
    status, out, err = cli("run", "x.yml", WIDE, "matrix.size=[1_000_000]")
    assert (status, out) == (2, "")
    assert "try a training.batch_size of " in err
    assert not list(Path("runs").rglob("result.json"))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] data. DefaultCPUAllocator: can't allocate memory"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
        RuntimeError("can't start new thread"),
        RuntimeError("could not create a primitive"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_running_out_names_the_model_and_the_settings(cli: Cli, error: Exception) -> None:
    with pytest.raises(TrainingError) as caught, reraise_oom(run_with()):
        raise error
    assert str(caught.value) == (
        "out of memory while training a mixer of 442 parameters with batches of 8 images; try a "
        "training.batch_size of 4 or a smaller model.hidden_channels or model.latent_dim "
        "(128 parameters are in encoder.0.module.weight)"
    )


@pytest.mark.parametrize(
    "error", [ValueError("mine"), RuntimeError("could not create a primitive descriptor for a matmul")]
)
def test_other_errors_are_left_alone(cli: Cli, error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)), reraise_oom(run_with()):
        raise error
