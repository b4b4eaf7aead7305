"""How fast this machine takes steps is measured once for each way, and grows with what a step has to do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mixcoder.backends import speed
from mixcoder.backends.backend import Execution
from mixcoder.backends.speed import Speed, Work, measured_speed, step_seconds
from mixcoder.models import create_model
from mixcoder.models.summary import count_parameters

EAGER = Execution(is_compiled=False, precision=torch.float32)


def test_a_step_takes_what_its_images_and_parameters_take() -> None:
    one = Speed(step_seconds=1.0, madd_seconds=0.5, parameter_seconds=0.25)
    work = Work(madds=4, parameters=8, batch_size=3)
    assert one.seconds(work, threads=1) == 1 + 4 * 3 * 0.5 + 8 * 0.25
    assert one.seconds(work, threads=2) == 1 + (4 * 3 * 0.5 + 8 * 0.25) / 2


@pytest.mark.usefixtures("empty_cache")
def test_it_is_measured_once_and_kept(tmp_path: Path) -> None:
    first = measured_speed(EAGER)
    [kept] = tmp_path.rglob("*.json")
    before = kept.stat().st_mtime_ns
    assert measured_speed(EAGER) == first
    assert kept.stat().st_mtime_ns == before
    other = measured_speed(Execution(is_compiled=True, precision=torch.float32))
    assert other != first
    assert len(list(tmp_path.rglob("*.json"))) == 2


@pytest.mark.usefixtures("empty_cache")
def test_measuring_changes_nothing_around_it() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    threads = torch.get_num_threads()
    assert step_seconds(EAGER, Work(madds=1, parameters=1, batch_size=1)) > 0
    assert torch.equal(torch.rand(2), expected)
    assert torch.get_num_threads() == threads


def test_every_way_has_a_speed() -> None:
    for is_native, is_compiled in ((False, False), (False, True), (True, False)):
        execution = Execution(is_compiled=is_compiled, precision=torch.float32, is_native=is_native)
        found = measured_speed(execution)
        assert found.madd_seconds > 0
        assert found.step_seconds >= 0


def test_the_number_of_parameters_is_that_of_the_model() -> None:
    arguments = dict(speed._LARGE)
    with torch.device("meta"):
        model = create_model(arguments.pop("type"), image_shape=(1, 28, 28), **arguments)
    assert count_parameters(model) == speed._LARGE_PARAMETERS
