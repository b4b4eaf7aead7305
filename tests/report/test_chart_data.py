"""What plots and the page share: curves, limits, colours, frontiers, places."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixcoder.measures import COSTS
from mixcoder.report.chart_data import (
    Curves,
    curve_points,
    join_limits,
    nearest_rising,
    pareto_front,
    pareto_order,
    spread,
)
from mixcoder.report.colours import run_colours
from mixcoder.report.cost_points import cost_points
from tests.report.test_figures import records


@given(
    st.lists(st.floats(-1, 2), min_size=1, max_size=40),
    st.floats(0.001, 0.2),
)
def test_spread_keeps_order_gap_and_bounds(positions: list[float], gap: float) -> None:
    placed = spread(positions, gap, 0.0, 1.0)
    in_order = [placed[i] for i in sorted(range(len(positions)), key=lambda i: positions[i])]
    room = min(gap, 1 / max(1, len(positions) - 1))
    assert all(after - before > room - 1e-9 for before, after in pairwise(in_order))
    assert -1e-9 <= in_order[0] <= in_order[-1] <= 1 + 1e-9


def test_spread_moves_no_more_than_it_must() -> None:
    assert spread([0.1, 0.5, 0.9], 0.1, 0, 1) == pytest.approx([0.1, 0.5, 0.9])
    assert spread([0.5, 0.5, 0.9], 0.1, 0, 1) == pytest.approx([0.45, 0.55, 0.9])


@given(st.lists(st.tuples(st.integers(0, 6), st.sampled_from([0.0, 1, 2, 3, 4, math.nan])), max_size=12))
def test_frontier_is_what_nothing_beats(points: list[tuple[float, float]]) -> None:
    front = pareto_front(points)
    for i, (cost, loss) in enumerate(points):
        beaten = math.isnan(loss) or any(
            (other_cost <= cost and other_loss <= loss and (other_cost, other_loss) != (cost, loss))
            or ((other_cost, other_loss) == (cost, loss) and j < i)
            for j, (other_cost, other_loss) in enumerate(points)
        )
        assert (i in front) == (not beaten)
    assert [points[i][0] for i in front] == sorted(points[i][0] for i in front)


def test_training_losses_are_means_of_a_hundredth(tmp_path: Path) -> None:
    record = records(tmp_path, "matrix.ks=[1]", "matrix.mixer=[cnn]")[0]
    curves = curve_points(record)
    assert len(curves.training) == 100
    assert curves.training[0] == pytest.approx((100, (5**-0.5 + 10**-0.5) / 2))
    assert curves.training[-1] == pytest.approx((10_000, (995**-0.5 + 1000**-0.5) / 2))
    assert [inputs for inputs, _ in curves.validation] == list(range(500, 10_001, 500))


def test_28_runs_have_28_colours(tmp_path: Path) -> None:
    colours = run_colours(records(tmp_path, "matrix.ks=[1]", "matrix.mixer=[cnn]"))
    assert len(set(colours)) == 28
    for colour in colours:
        red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        assert 0.05 < 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.85
    assert len(set(run_colours(records(tmp_path)[:1]))) == 1


def test_curves_of_epochs_need_no_data(tmp_path: Path) -> None:
    """How long the run is would need the number of images, in a folder that may be anywhere."""
    [record, *_] = records(tmp_path)
    assert record.run
    recipe = record.run.recipe.model_copy(update={"steps": None, "epochs": 3.0})
    run = replace(record.run, recipe=recipe, data=("folder", {"path": "nowhere"}))
    for result in (record.result, {}):
        curves = curve_points(replace(record, run=run, result=result))
        assert 90 <= len(curves.training) <= 102


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30))
def test_the_nearest_numbers_that_never_fall_are_those_of_scikit_learn(values: list[float]) -> None:
    from sklearn.isotonic import isotonic_regression  # type: ignore[import-untyped]

    assert nearest_rising(values) == pytest.approx(isotonic_regression(values).tolist(), abs=1e-9)


@given(
    st.lists(st.tuples(st.none() | st.integers(1, 5), st.none() | st.sampled_from([1.0, 2, 3, math.nan]))),
    st.randoms(use_true_random=False),
)
def test_the_order_gives_the_frontier_of_any_choice(
    points: list[tuple[int | None, float | None]], random: Random
) -> None:
    """As the page's script takes it for the runs that it shows."""
    shown = [i for i in range(len(points)) if random.random() < 0.6]
    front: list[int] = []
    for i in pareto_order(points):
        if i in shown and (not front or points[i][1] < points[front[-1]][1]):  # type: ignore[operator]
            front.append(i)
    assert front == [shown[k] for k in pareto_front([points[i] for i in shown])]


def test_limits_leave_out_the_steep_part_and_join() -> None:
    steep = Curves([(1, 100.0), (10, 2.0), (100, 1.0)], [(100, 1.5)])
    assert steep.limits == pytest.approx((0.97, 2.0 * 1.03))
    assert Curves([(100, 1.0)], []).limits == pytest.approx((0.97, 1.05 * 1.03))
    assert Curves([], []).limits is None
    assert join_limits([(1, 2), (0.5, 1.5)]) == (0.5, 2)


def test_a_run_that_is_not_done_has_no_costs(tmp_path: Path) -> None:
    record = replace(records(tmp_path)[0], result={})
    [point] = cost_points([record])
    assert (point.loss, point.costs) == (None, dict.fromkeys(COSTS))
