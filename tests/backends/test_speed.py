"""The speed of steps is measured once for each backend, and a step's seconds grow with its work."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mixcoder.backends import speed
from mixcoder.backends.backend import Backend, BackendChoice
from mixcoder.backends.eager import EAGER
from mixcoder.backends.inductor.inductor_backend import INDUCTOR
from mixcoder.backends.native.native_backend import NATIVE
from mixcoder.backends.speed import Speed, Work, measured_speed, step_seconds
from mixcoder.models import create_model
from mixcoder.models.summary import count_parameters

STEPS = BackendChoice(EAGER, torch.float32)


def test_a_step_takes_what_its_images_and_parameters_take() -> None:
    one = Speed(step_seconds=1.0, madd_seconds=0.5, parameter_seconds=0.25)
    work = Work(madds=4, parameters=8, batch_size=3)
    assert one.seconds(work, threads=1) == 1 + 4 * 3 * 0.5 + 8 * 0.25
    assert one.seconds(work, threads=2) == 1 + (4 * 3 * 0.5 + 8 * 0.25) / 2


@pytest.mark.usefixtures("empty_cache")
def test_it_is_measured_once_and_kept(tmp_path: Path) -> None:
    first = measured_speed(STEPS)
    [kept] = tmp_path.rglob("*.json")
    before = kept.stat().st_mtime_ns
    assert measured_speed(STEPS) == first
    assert kept.stat().st_mtime_ns == before
    other = measured_speed(BackendChoice(INDUCTOR, torch.float32))
    assert other != first
    assert len(list(tmp_path.rglob("*.json"))) == 2


@pytest.mark.usefixtures("empty_cache")
def test_measuring_changes_nothing_around_it() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    threads = torch.get_num_threads()
    assert step_seconds(STEPS, Work(madds=1, parameters=1, batch_size=1)) > 0
    assert torch.equal(torch.rand(2), expected)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("backend", [EAGER, INDUCTOR, NATIVE])
def test_every_backend_has_a_speed(backend: Backend) -> None:
    found = measured_speed(BackendChoice(backend, torch.float32))
    assert found.madd_seconds > 0
    assert found.step_seconds >= 0


def test_the_number_of_parameters_is_that_of_the_model() -> None:
    arguments = dict(speed._LARGE)
    with torch.device("meta"):
        model = create_model(arguments.pop("type"), image_shape=(1, 28, 28), **arguments)
    assert count_parameters(model) == speed._LARGE_PARAMETERS
