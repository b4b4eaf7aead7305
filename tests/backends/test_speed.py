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
from mixcoder.backends.speed import Speed, Timed, Work, fit_costs, measured_speed, step_seconds
from mixcoder.models import create_model
from mixcoder.models.cost import Costs
from mixcoder.models.summary import count_parameters

STEPS = BackendChoice(EAGER, torch.float32)


def test_a_step_takes_what_its_images_and_parameters_take() -> None:
    one = Speed(step_seconds=1.0, madd_seconds=0.5, element_seconds=2.0, parameter_seconds=0.25)
    work = Work(Costs(0, 0, 4, 5), parameters=8, batch_size=3, update_madds=7)
    assert one.seconds(work, threads=1) == 1 + 4 * 3 * 0.5 + 5 * 3 * 2 + 7 * 0.5 + 8 * 0.25
    assert one.seconds(work, threads=2) == 1 + (4 * 3 * 0.5 + 5 * 3 * 2 + 7 * 0.5 + 8 * 0.25) / 2


def _timed(madds: int, elements: int, image_seconds: float) -> Timed:
    return Timed(Costs(0, 0, madds, elements), few=1.0, image_seconds=image_seconds)


def test_the_seconds_of_models_are_shared_among_multiply_adds_and_elements() -> None:
    exact = [_timed(10, 2, 10 * 0.5 + 2 * 3), _timed(1, 4, 1 * 0.5 + 4 * 3), _timed(9, 1, 9 * 0.5 + 1 * 3)]
    assert fit_costs(exact) == pytest.approx((0.5, 3.0))


def test_neither_of_both_takes_less_than_no_time() -> None:
    madd, element = fit_costs([_timed(10, 2, 1.0), _timed(10, 4, 0.5), _timed(20, 1, 2.0)])
    assert madd == pytest.approx(40 / 600)  # 10, 20 and 10 multiply-adds a second
    assert element == 0


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
    assert step_seconds(STEPS, Work(Costs(1, 1, 1, 1), parameters=1, batch_size=1)) > 0
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
