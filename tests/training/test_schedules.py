"""The learning rate over a run."""

from __future__ import annotations

import pytest
import torch

from mixcoder.training.recipe import Recipe
from mixcoder.training.schedules import learning_rate_at


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
