"""Curves and costs: every run found, every label legible, the same bytes again."""

from __future__ import annotations

import math
import re
from itertools import combinations, pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mixcoder.errors import ArgumentError
from mixcoder.experiments.results import Record, records_of
from mixcoder.experiments.run_directory import RunDirectory
from mixcoder.experiments.spec import read_experiment
from mixcoder.report.curves import (
    curve_points,
    loss_curves,
    pareto_front,
    pareto_plot,
    run_colours,
    save_figure,
    spread,
)

SWEEP = """\
name: mine
data: {source: digits}
model:
  type: mixer
  patch_size: 4
  hidden_channels: [16]
  latent_dim: 3
  mixer_at: [1]
  mixer: ${mixer}
  kernel_size: ${ks}
training: {steps: 1000, batch_size: 10}
matrix: {mixer: [cnn, cnnf, cnn2d, cnn2df], ks: [1, 3, 5, 7, 9, 11, 13]}
"""


def records(folder: Path, *overrides: str, name: str = "x.yml") -> list[Record]:
    """Runs that have ended, with metrics of a plausible kind; what `overrides` leaves out has none."""
    (folder / name).write_text(SWEEP)
    runs = folder / "runs"
    for i, run in enumerate(read_experiment(folder / name, overrides).runs):
        directory = RunDirectory.of(run, runs)
        directory.write_config(run)
        for step in range(5, 1001, 5):
            row = {"step": step, "inputs": step * 10, "training_loss": 1 / step**0.5 + i / 900}
            directory.append_metrics(
                row | ({"validation_loss": 1.1 / step**0.5 + i / 999} if step % 50 == 0 else {})
            )
        result = {
            "validation_loss": 0.03 + i / 999,
            "params": 1000 + i * i,
            "train_minutes": 2.0,
            "madds": 5000 - i,
        }
        directory.write_result(result)
    return records_of(read_experiment(folder / name), runs)


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


def test_damage_does_not_show(tmp_path: Path) -> None:
    record = records(tmp_path, "matrix.ks=[1]", "matrix.mixer=[cnn]")[0]
    before = curve_points(record)
    directory = record.directory
    directory.append_metrics(
        {"step": 1, "inputs": 10_000, "training_loss": math.nan, "validation_loss": math.inf}
    )
    with (directory.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1005, "inputs": 10')
    assert curve_points(record) == before
    save_figure(loss_curves([record]), tmp_path / "x.png")


def test_28_runs_have_28_colours(tmp_path: Path) -> None:
    colours = run_colours(records(tmp_path, "matrix.ks=[1]", "matrix.mixer=[cnn]"))
    assert len(set(colours)) == 28
    for colour in colours:
        red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        assert 0.05 < 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.85
    assert len(set(run_colours(records(tmp_path)[:1]))) == 1


def test_28_labels_cover_each_other_nowhere(tmp_path: Path) -> None:
    figure = loss_curves(records(tmp_path))
    figure.draw_without_rendering()
    labels = [text for text in figure.axes[1].texts if text.get_text()]
    assert len(labels) == 28
    boxes = [label.get_window_extent() for label in labels]
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)

    dots = pareto_plot(records(tmp_path), "params")
    dots.draw_without_rendering()
    boxes = [text.get_window_extent() for text in dots.axes[0].texts]
    assert len(boxes) > 10
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_svg_is_whole_and_the_same_again(tmp_path: Path) -> None:
    runs = records(tmp_path, "matrix.ks=[1, 3]")
    for name in ("a.svg", "b.svg"):
        save_figure(loss_curves(runs), tmp_path / name)
    text = (tmp_path / "a.svg").read_text()
    assert text == (tmp_path / "b.svg").read_text()
    shown = " ".join(ElementTree.fromstring(text).itertext())
    assert len(re.findall(r"mixer=cnn\w*, ks=[13]\b", shown)) == 8
    assert "ks=5" not in shown


@pytest.mark.parametrize("cost", ["params", "time", "madds"])
def test_png_and_pdf(tmp_path: Path, cost: str) -> None:
    figure = pareto_plot(records(tmp_path, "matrix.ks=[1]"), cost)
    save_figure(figure, tmp_path / "x.png")
    save_figure(figure, tmp_path / "x.pdf")
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.size == (1800, 1200)
    assert (tmp_path / "x.pdf").read_bytes().startswith(b"%PDF")


def test_refusals(tmp_path: Path) -> None:
    (tmp_path / "x.yml").write_text(SWEEP)
    untouched = records_of(read_experiment(tmp_path / "x.yml"), tmp_path / "runs")
    with pytest.raises(ArgumentError, match="nothing has been trained yet; mixcoder run does it"):
        loss_curves(untouched)
    with pytest.raises(ArgumentError, match="no run is done yet"):
        pareto_plot(untouched, "params")
    figure = loss_curves(records(tmp_path, "matrix.ks=[1]"))
    with pytest.raises(ArgumentError, match=r"'.*x.jpg' does not end in .svg, .png or .pdf"):
        save_figure(figure, tmp_path / "x.jpg")
    assert not (tmp_path / "x.jpg").exists()
