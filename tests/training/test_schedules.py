"""The learning rate over a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

import mixcoder
from mixcoder.errors import ArgumentError
from mixcoder.registry.problems import list_problems
from mixcoder.training.recipe import Recipe
from mixcoder.training.schedules import learning_rate_at
from tests.conftest import Cli


def rates(total: int, **settings: object) -> list[float]:
    recipe = Recipe(steps=total, learning_rate=0.5, **settings)  # type: ignore[arg-type]
    return [learning_rate_at(step, total, recipe) for step in range(total)]


def test_cosine_is_torchs() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50)
    expected = []
    for _ in range(50):
        expected.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates(50) == pytest.approx(expected, rel=1e-9)


def test_warmup_rises_from_the_first_step_to_the_full_rate() -> None:
    assert rates(10, warmup_steps=4)[:5] == pytest.approx([0.125, 0.25, 0.375, 0.5, 0.5])
    assert rates(10, warmup_steps=4)[5:] == sorted(rates(10, warmup_steps=4)[5:], reverse=True)


def test_linear_falls_on_a_line_to_zero_after_the_last_step() -> None:
    assert rates(6, schedule="linear", warmup_steps=2) == [0.25, 0.5, 0.5, 0.375, 0.25, 0.125]


def test_wsd_stays_and_then_falls_over_its_share_of_the_run() -> None:
    stable, falling = [0.25, *[0.5] * 6], [0.375, 0.25, 0.125]
    assert rates(10, schedule="wsd", warmup_steps=2, decay_share=0.4) == [*stable, *falling]
    assert rates(10, schedule="wsd", decay_share=1.0) == rates(10, schedule="linear")
    assert rates(10, schedule="wsd") == rates(10, schedule="wsd", decay_share=0.2)


def test_wsd_falls_from_the_full_rate_where_its_share_reaches_into_the_warmup() -> None:
    assert rates(10, schedule="wsd", decay_share=0.9, warmup_steps=6)[5:] == [0.5, 0.5, 0.375, 0.25, 0.125]


def test_constant_stays() -> None:
    assert rates(6, schedule="constant", warmup_steps=2) == [0.25, 0.5, 0.5, 0.5, 0.5, 0.5]


def test_step_falls_to_a_tenth_as_torchs_does_at_its_milestones() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [30, 45], gamma=0.1)
    expected = []
    for _ in range(50):
        expected.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates(50, schedule="step", decay_at=[0.6, 0.9]) == pytest.approx(expected, rel=1e-9)
    assert rates(20, schedule="step") == pytest.approx([0.5] * 10 + [0.05] * 5 + [0.005] * 5)
    assert rates(20, schedule="step", warmup_steps=2)[:3] == [0.25, 0.5, 0.5]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"decay_at": [0.5]}, "is for the schedule step alone, not for cosine"),
        ({"schedule": "wsd", "decay_at": [0.5]}, "is for the schedule step alone, not for wsd"),
        ({"schedule": "step", "decay_share": 0.5}, "is for the schedule wsd alone, not for step"),
        ({"schedule": "step", "decay_at": []}, "must have at least 1 in it"),
        ({"schedule": "step", "decay_at": [1.5]}, "must be below 1"),
        ({"schedule": "cosin"}, "unknown schedule 'cosin'; did you mean 'cosine'?"),
    ],
)
def test_settings_of_another_schedule_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Recipe(steps=1, **settings)
    assert message in "; ".join(found for _, found in list_problems(caught.value, Recipe))


PLUGIN = """
import mixcoder

@mixcoder.register_schedule("square")
def square(step, total_steps, recipe):
    return (1 - step / total_steps) ** 2
"""
FILE = """
name: mine
data: {source: digits}
model: {type: mixer, patch_size: 4, hidden_channels: [9], latent_dim: 3, mixer_at: [1]}
training: {schedule: square, learning_rate: 0.01, steps: 10, validations: 1, compile: "off"}
"""


def test_a_schedule_of_a_plugin_is_a_name_like_others(cli: Cli) -> None:
    Path("square.py").write_text(PLUGIN)
    Path("x.yml").write_text(FILE)
    assert cli("--plugin", "square.py", "run", "x.yml")[0] == 0
    [metrics] = Path("runs").rglob("metrics.jsonl")
    found = [json.loads(line)["learning_rate"] for line in metrics.read_text().splitlines()]
    assert found == pytest.approx([0.01 * (1 - step / 10) ** 2 for step in range(10)])
    Path("x.yml").write_text(FILE.replace("square", "sqare"))
    status, _, err = cli("--plugin", "square.py", "plan", "x.yml")
    assert status == 2
    assert "training.schedule: unknown schedule 'sqare'; did you mean 'square'?" in err


@pytest.mark.parametrize("factor", [-1.0, float("nan"), None])
def test_what_is_no_factor_is_refused(factor: float) -> None:
    mixcoder.register_schedule("wrong")(lambda step, total_steps, recipe: factor)
    with pytest.raises(ArgumentError, match=r"'wrong' gives .* at step 0; it must give a number from 0 on"):
        rates(4, schedule="wrong")
