"""Curves and costs: every run found, every label legible, the same bytes again."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib.text import Annotation, Text
from PIL import Image

from mixcoder.errors import ArgumentError
from mixcoder.experiments.file.spec import read_experiment
from mixcoder.experiments.results.records import Record, records_of, short_names
from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.report.chart_data import curve_points
from mixcoder.report.figures import loss_curves, nearest, pareto_plot, save_figure, short_number
from tests.conftest import slow, slow_but

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


@slow
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
    boxes = [Text.get_window_extent(text) for text in dots.axes[0].texts]
    assert len(boxes) > 20
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


@pytest.mark.parametrize("cost", slow_but(1, ["params", "time", "madds"]))
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


@pytest.mark.parametrize("suffix", slow_but(1, [".svg", ".png"]))
def test_each_name_stands_at_its_own_dot_or_a_line_leads_there(tmp_path: Path, suffix: str) -> None:
    """Dots in tight groups, as of seeds, where a name beside one could be read as that of the next."""
    runs = [
        replace(record, result=record.result | {"params": 10_000 + 40 * (i % 5), "validation_loss": loss})
        for i, record in enumerate(records(tmp_path))
        for loss in [0.02 + 0.004 * (i // 5) + 0.0001 * (i % 5)]
    ]
    figure = pareto_plot(runs, "params")
    save_figure(figure, tmp_path / f"x{suffix}")
    figure.draw_without_rendering()
    axes = figure.axes[0]
    places = {
        name: tuple(axes.transData.transform((run.result["params"], run.result["validation_loss"])))
        for run, name in zip(runs, short_names(runs), strict=True)
    }
    labels = [text for text in axes.texts if isinstance(text, Annotation)]
    assert len(labels) > 14
    for label in labels:
        own = places[label.get_text()]
        led = label.arrow_patch is not None
        assert led or nearest(list(places.values()), Text.get_window_extent(label)) == own
        assert axes.transData.transform(label.xy) == pytest.approx(own)


HOSTILE = "\x1b]0;\x07</text><script>$x$\u202e\0\udcff"


def test_no_name_breaks_a_picture(tmp_path: Path) -> None:
    runs = [replace(it, values={"mixer": f"{HOSTILE}{i}"}) for i, it in enumerate(records(tmp_path)[:3])]
    for name, figure in (("a", loss_curves(runs)), ("b", pareto_plot(runs, "params"))):
        for suffix in (".svg", ".png", ".pdf"):
            save_figure(figure, tmp_path / f"{name}{suffix}")
        text = (tmp_path / f"{name}.svg").read_text()
        assert "<script>" not in text
        shown = " ".join(ElementTree.fromstring(text).itertext())
        assert r"mixer=\x1b]0;\x07</text><script>$x$\u202e\x00\udcff0" in shown


NOT_DRAWABLE = [math.nan, math.inf, -1.0, 0.0, 1e300, 10**400, None]


@pytest.mark.parametrize("value", slow_but(2, NOT_DRAWABLE), ids=str)
@pytest.mark.filterwarnings("error")
def test_a_result_that_no_axis_can_show_costs_no_picture(tmp_path: Path, value: float | None) -> None:
    """Of one run alone it is told in a sentence, of one among others the others are drawn."""
    runs = records(tmp_path)[:3]
    for key in ("params", "validation_loss"):
        odd = replace(runs[0], result=runs[0].result | {key: value})
        figure = pareto_plot([odd, *runs[1:]], "params")
        assert len(figure.axes[0].collections) == 2
        save_figure(figure, tmp_path / "x.svg")
        with pytest.raises(ArgumentError, match="no result states a loss and 'params' above zero"):
            pareto_plot([odd], "params")


@pytest.mark.filterwarnings("error")
def test_metrics_that_no_axis_can_show_cost_no_picture(tmp_path: Path) -> None:
    runs = records(tmp_path)[:2]
    path = runs[0].directory.path / "metrics.jsonl"
    rows = [
        {"step": 1, "inputs": inputs, "training_loss": loss, "validation_loss": loss}
        for inputs in (1, 50, 10**30, -5)
        for loss in (math.nan, -math.inf, 0.0, -1.0, 1e300, 0.5)
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    curves = curve_points(runs[0])
    assert {loss for _, loss in (*curves.training, *curves.validation)} == {0.5}
    assert {inputs for inputs, _ in curves.validation} == {1, 50}
    for shown in (runs, runs[:1]):
        save_figure(loss_curves(shown), tmp_path / "x.svg")
    path.write_text("")
    with pytest.raises(ArgumentError, match="nothing has been trained yet"):
        loss_curves(runs[:1])


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "0.5"), (0.002, "0.002"), (1, "1"), (20, "20"), (999.5, "999.5"), (1500, "1.5k"), (2e6, "2M")],
)
def test_numbers_on_an_axis(value: float, text: str) -> None:
    assert short_number(value) == text


@pytest.mark.parametrize("minutes", [(0.2, 0.5, 0.9), (0.01, 3.0, 700.0), (10_000.0, 10_010.0, 10_020.0)])
def test_an_axis_of_minutes_says_minutes(tmp_path: Path, minutes: tuple[float, ...]) -> None:
    runs = [
        replace(it, result=it.result | {"train_minutes": cost})
        for it, cost in zip(records(tmp_path), minutes, strict=False)
    ]
    figure = pareto_plot(runs, "time")
    figure.draw_without_rendering()
    axes = figure.axes[0]
    low, high = axes.get_xlim()
    labels = [
        label.get_text()
        for place, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
        if low <= place <= high
    ]
    assert len(labels) >= 3
    assert not [label for label in labels if label.endswith("m") or "µ" in label]
