"""Reports of runs that are out of the ordinary: each is a page, whole and alive in a real browser."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from mixcoder.data import DataSource, ImageData, register_source
from mixcoder.data.split import ImageSplit
from mixcoder.experiments.file.spec import read_experiment
from mixcoder.experiments.results.records import Record, records_in
from mixcoder.experiments.runs.run_data import allow_all, allow_local
from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.report.chart_data import pareto_front, spread
from mixcoder.report.cost_points import cost_points
from mixcoder.report.page import write_page
from tests.conftest import Cli, slow_but
from tests.report.test_figures import records as figure_records
from tests.report.test_page import embedded

CONFIG = """\
name: odd
data: {source: odd, kind: KIND}
model: {type: mixer, patch_size: 2, hidden_channels: [4], latent_dim: 2}
training: {steps: 100, batch_size: 10}
"""


def noise(count: int, channels: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, channels, 4, 4), generator=generator, dtype=torch.uint8)


def labelled(images: Tensor, labels: list[int]) -> ImageSplit:
    return ImageSplit(images, torch.tensor(labels))


DATA: dict[str, Callable[[], tuple[ImageSplit, ImageSplit]]] = {
    "usual": lambda: (labelled(noise(20), [0, 1] * 10), labelled(noise(12), [0, 1] * 6)),
    "one-validates": lambda: (labelled(noise(20), [0, 1] * 10), labelled(noise(1), [0])),
    "two-validate": lambda: (labelled(noise(20), [0, 1] * 10), labelled(noise(2), [0, 0])),
    "three-train": lambda: (labelled(noise(3), [0, 1, 1]), labelled(noise(12), [0, 1] * 6)),
    "one-trains": lambda: (labelled(noise(1), [0]), labelled(noise(1), [0])),
    "all-equal": lambda: (
        labelled(noise(1).expand(9, -1, -1, -1).clone(), [1] * 9),
        labelled(noise(1).expand(5, -1, -1, -1).clone(), [1] * 5),
    ),
    "unlabelled": lambda: (ImageSplit(noise(20)), ImageSplit(noise(12))),
    "half-labelled": lambda: (ImageSplit(noise(20)), labelled(noise(12), [0, 1] * 6)),
    "odd-labels": lambda: (labelled(noise(20), [-7, 10**9] * 10), labelled(noise(12), list(range(-6, 6)))),
    "two-channels": lambda: (ImageSplit(noise(20, 2)), ImageSplit(noise(12, 2))),
    "four-channels": lambda: (ImageSplit(noise(20, 4)), ImageSplit(noise(12, 4))),
}


@pytest.fixture(autouse=True)
def _odd_source() -> None:
    @register_source("odd")
    class Odd(DataSource):
        """Small images in odd numbers."""

        def __init__(self, kind: str) -> None:
            self.kind = kind
            self.training_images = 20
            self.image_shape = ({"two-channels": 2, "four-channels": 4}.get(kind, 1), 4, 4)

        def load(self) -> ImageData:
            if self.kind == "broken":
                raise RuntimeError("this plugin is broken")
            return ImageData("odd", *DATA[self.kind]())


def finished(
    folder: Path, kind: str, result: dict[str, Any] | None = None, weight: float = 0.0, config: str = CONFIG
) -> Record:
    """A run with a model and a result, whose weights are random, or all of one value."""
    (folder / "x.yml").write_text(config.replace("KIND", kind))
    [run] = read_experiment(folder / "x.yml").runs
    directory = RunDirectory.of(run, folder / "runs")
    directory.path.mkdir(parents=True, exist_ok=True)
    directory.write_config(run)
    torch.manual_seed(0)
    model = run.create_model()
    if weight:
        for parameter in model.parameters():
            parameter.data.fill_(weight)
    directory.write_model(model, run.model[0], {**run.model[1], "image_shape": model.image_shape})
    directory.write_result(result or {"validation_loss": 0.25})
    return next(it for it in records_in(folder / "runs") if it.directory.path == directory.path)


def strictly(path: Path) -> Any:
    """The data of a page, as a browser reads it: no NaN, no Infinity."""
    content = embedded(path.read_text(encoding="utf-8"))
    return json.loads(json.dumps(content, allow_nan=False))


@pytest.mark.parametrize("kind", DATA)
@pytest.mark.filterwarnings("error")
def test_any_data_gives_a_page(tmp_path: Path, kind: str) -> None:
    record = finished(tmp_path, kind)
    write_page([record], tmp_path / "x.html", allow_all)
    [run] = strictly(tmp_path / "x.html")["runs"]
    found = run["latents"]
    assert found["points"]
    assert (found["labels"] is None) == (kind in ("unlabelled", "two-channels", "four-channels"))
    assert (found["accuracy"] is None) == (("label" in kind and kind != "odd-labels") or "channels" in kind)
    assert bool(found["interpolation"]) == (kind not in ("one-validates", "one-trains"))
    assert bool(found["explained"]) == (kind not in ("one-validates", "one-trains", "all-equal"))
    assert "Without pictures" not in (tmp_path / "x.html").read_text()


@pytest.mark.parametrize("weight", [math.nan, math.inf, 1e38])
def test_codes_that_are_no_numbers_have_no_latent_space(tmp_path: Path, weight: float) -> None:
    write_page([finished(tmp_path, "usual", weight=weight)], tmp_path / "x.html", allow_all)
    [run] = strictly(tmp_path / "x.html")["runs"]
    assert run["latents"] is None
    page = (tmp_path / "x.html").read_text()
    assert '<section id="pictures">' in page
    assert '<section id="latents">' not in page


@pytest.mark.parametrize("loss", [math.nan, math.inf, 0.0, -1.0, 1e300])
def test_any_loss_gives_a_page(tmp_path: Path, loss: float) -> None:
    write_page([finished(tmp_path, "usual", {"validation_loss": loss})], tmp_path / "x.html", allow_all)
    [run] = strictly(tmp_path / "x.html")["runs"]
    assert run["loss"] is None


WHOLE: dict[str, Any] = {
    "validation_loss": 0.5,
    "best_validation_loss": 0.4,
    "psnr": 9.1,
    "ssim": 0.5,
    "inputs": 1000,
    "params": 99,
    "madds": 999,
    "latent_shape": [2, 2, 2],
    "compression_ratio": 2.0,
    "train_minutes": 0.5,
    "throughput": 10.0,
    "hardware": {"cpu": "x"},
    "versions": {"torch": "2"},
}


@pytest.mark.parametrize("missing", slow_but(1, ["all", "params", "train_minutes", "madds"]))
def test_a_result_may_lack_what_is_optional(cli: Cli, missing: str) -> None:
    kept = [key for key in WHOLE if key == "validation_loss" or missing not in (key, "all")]
    record = finished(Path(), "usual", {key: WHOLE[key] for key in kept})
    record.directory.append_metrics({"step": 1, "inputs": 10, "training_loss": 0.5, "learning_rate": 0.1})
    for form in ("text", "md", "csv", "json"):
        assert cli("table", "runs", "--format", form)[0] == 0
    for cost, key in (("params", "params"), ("time", "train_minutes"), ("madds", "madds")):
        status, _, err = cli("plot", "runs", "-o", "x.svg", "--pareto", cost)
        told = f"no result states a loss and '{key}' above zero" in err
        assert (status, told) == ((0, False) if key in kept else (2, True))
    assert cli("plot", "runs", "-o", "x.svg")[::2] == (0, "")
    assert cli("report", "runs", "-o", "x.html", "--open-data")[::2] == (0, "")
    assert strictly(Path("x.html"))["runs"][0]["latents"]


def test_a_plugin_that_fails_costs_its_own_pictures_only(tmp_path: Path) -> None:
    finished(tmp_path, "broken")
    finished(tmp_path, "usual")
    records = records_in(tmp_path / "runs")
    write_page(records, tmp_path / "x.html", allow_all)
    assert [bool(run["latents"]) for run in strictly(tmp_path / "x.html")["runs"]] == [False, True]
    note = "Without pictures: kind=broken. Why: RuntimeError: this plugin is broken."
    assert note in (tmp_path / "x.html").read_text()


def test_a_model_of_other_images_costs_its_own_pictures_only(tmp_path: Path) -> None:
    record = finished(tmp_path, "usual")
    assert record.run
    other = replace(record, run=replace(record.run, data=("digits", {})))
    write_page([other], tmp_path / "x.html")
    assert "the model does not take the images of its data, 1 x 8 x 8" in (tmp_path / "x.html").read_text()


@pytest.mark.parametrize("content", [b"\xff\xfe not UTF-8", b"a: \x1b[31m\x00", b"x" * 10**6])
def test_any_config_is_shown(tmp_path: Path, content: bytes) -> None:
    record = finished(tmp_path, "usual")
    (record.directory.path / "config.yml").write_bytes(content)
    write_page([record], tmp_path / "x.html", allow_all)
    page = (tmp_path / "x.html").read_text(encoding="utf-8")
    assert all(it.isprintable() or it == "\n" for it in page)


def test_a_config_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    record = finished(tmp_path, "usual")
    (record.directory.path / "config.yml").unlink()
    os.mkfifo(record.directory.path / "config.yml")
    write_page([record], tmp_path / "x.html", allow_all)


HOSTILE = "\x1b]0;owned\x07</script><img src=x onerror=alert(1)>\u202e\udcff\0"


def test_every_text_of_a_stranger_is_safe(tmp_path: Path) -> None:
    result = {"validation_loss": 0.5, "hardware": {HOSTILE: HOSTILE}, "finished": [HOSTILE]}
    record = finished(tmp_path, "usual", result)
    record = replace(record, values={"mixer": HOSTILE, HOSTILE: [HOSTILE]}, reason=HOSTILE)
    broken = replace(record, state="failed", result={}, values={"mixer": "b", HOSTILE: {"name": HOSTILE}})
    write_page([record, broken], tmp_path / "x.html", allow_all)
    page = (tmp_path / "x.html").read_text(encoding="utf-8")
    assert all(it.isprintable() or it == "\n" for it in page)
    assert "<img src=x" not in page
    texts = json.dumps(embedded(page), ensure_ascii=False)
    assert texts.isprintable()


FOLDER = """\
name: odd
data: {source: folder, path: private, crop_size: 4, channels: 1}
model: {type: mixer, patch_size: 2, hidden_channels: [4], latent_dim: 2}
training: {epochs: 3, batch_size: 2}
"""


def test_a_folder_that_a_strangers_run_names_is_opened_only_when_asked(cli: Cli, empty_cache: Path) -> None:
    """Not even listed or packed, for whatever command: its images may be private, the page is for others."""
    Path("private").mkdir()
    for i, image in enumerate(noise(30)):
        Image.fromarray(image[0].numpy()).save(f"private/{i}.png")
    record = finished(Path(), "", WHOLE, config=FOLDER)
    record.directory.append_metrics({"step": 1, "inputs": 10, "training_loss": 0.5, "validation_loss": 0.5})
    packs = empty_cache.parent / "cache"

    assert cli("report", "runs", "-o", "x.html")[::2] == (0, "")
    assert strictly(Path("x.html"))["runs"][0]["latents"] is None
    told = f"the data that the run names, folder (path={Path('private').absolute()}), is opened only with"
    assert told in Path("x.html").read_text()
    status, _, err = cli("reconstruct", "runs/odd", "-o", "x.png")
    assert (status, err) == (2, f"error: {told} --open-data\n")
    assert cli("table", "runs", "--against", "article")[0] == 0
    assert cli("plot", "runs", "-o", "x.svg")[0] == 0
    assert not packs.exists()

    assert cli("reconstruct", "runs/odd", "-o", "x.png", "--open-data")[::2] == (0, "")
    assert packs.exists()
    for arguments in (("runs", "--open-data"), ("x.yml",)):
        assert cli("report", *arguments, "-o", "x.html")[::2] == (0, "")
        assert strictly(Path("x.html"))["runs"][0]["latents"]


def test_pictures_of_other_data_are_not_shown_as_those_of_the_result(tmp_path: Path) -> None:
    record = finished(tmp_path, "usual", {**WHOLE, "data_hash": "0" * 64})
    write_page([record], tmp_path / "x.html", allow_all)
    assert strictly(tmp_path / "x.html")["runs"][0]["latents"] is None
    assert "Why: its data is not what it was when the model was trained." in (tmp_path / "x.html").read_text()


def test_what_is_not_on_this_machine_is_not_fetched_unasked(cli: Cli, empty_cache: Path) -> None:
    """MNIST is known by name, and fetching it would be a request that the user did not ask for."""
    data = "data: {source: mnist}\nmodel: {type: mixer, patch_size: 4, hidden_channels: [4], latent_dim: 2}\n"
    finished(Path(), "", WHOLE, config=f"name: odd\n{data}training: {{steps: 9}}\n")
    assert cli("report", "runs", "-o", "x.html")[::2] == (0, "")
    assert "the data that the run names, mnist, is opened only" in Path("x.html").read_text()


def many(record: Record) -> list[Record]:
    """More points together than one call of a function in a browser takes."""
    row = {"step": 1, "training_loss": 0.5, "validation_loss": 0.5}
    lines = [json.dumps({**row, "inputs": inputs}) for inputs in range(1, 5001)]
    (record.directory.path / "metrics.jsonl").write_text("\n".join(lines))
    return [replace(record, values={"i": i}) for i in range(30)]


def cluster(record: Record) -> list[Record]:
    """Runs whose costs and losses lie close, as those of several seeds do."""
    return [
        replace(
            record,
            values={"kernel_size": i // 6, "seed": i % 6},
            result={
                "validation_loss": 0.1 + i // 6 + 0.004 * (i % 6),
                "madds": 1000 * (1 + i // 6) + 25 * (i % 6),
            },
        )
        for i in range(24)
    ]


MISPLACED = """() => {
  const dots = [...document.querySelectorAll("#pareto circle")]
    .map((dot) => ({ run: dot.dataset.run, box: dot.getBoundingClientRect() }));
  const gap = ({ box }, name) => {
    const x = box.x + box.width / 2, y = box.y + box.height / 2;
    return Math.hypot(Math.max(name.left - x, 0, x - name.right), Math.max(name.top - y, 0, y - name.bottom));
  };
  return [...document.querySelectorAll("#pareto text.label")].filter((label) => {
    const name = label.getBoundingClientRect(), own = dots.find((dot) => dot.run === label.dataset.run);
    return dots.some((dot) => gap(dot, name) < gap(own, name) - 4);
  }).map((label) => label.textContent);
}"""
"""The names in the plot of costs that stand nearer to another run's dot than to their own."""


def test_the_page_draws_what_plots_draw(tmp_path: Path, browser: object) -> None:
    """Frontier and places of names are those of chart_data, whichever runs the page shows."""
    from playwright.sync_api import Browser

    assert isinstance(browser, Browser)
    random = Random(0)
    records = [
        replace(record, result=record.result | {"params": random.randint(1000, 9999)})
        for record in figure_records(tmp_path)
    ]
    write_page(records, tmp_path / "x.html", allow_local)
    page = browser.new_page(viewport={"width": 1000, "height": 800})
    page.goto((tmp_path / "x.html").as_uri())
    points = cost_points(records)
    for words, count in (("", 28), ("mixer=cnn2d", 7), ("ks=7", 4)):
        page.locator("#filter").fill(words)
        runs = [int(run) for run in page.evaluate(SHOWN)]
        assert len(runs) == count
        front = pareto_front([(points[run].costs["params"], points[run].loss) for run in runs])
        assert len(front) > 1
        assert [int(run) for run in page.evaluate(FRONT)] == sorted(runs[i] for i in front)
        ends, places, height = page.evaluate(ENDS)
        assert places == pytest.approx(spread(ends, 15, 12, height - 26))
    page.close()


SHOWN = "() => [...document.querySelectorAll('tbody tr:not([hidden])')].map((row) => row.dataset.run)"
FRONT = """() => [...document.querySelectorAll('#pareto circle[r="7"]')].map((dot) => dot.dataset.run)"""
ENDS = """() => {
  const leaders = [...document.querySelectorAll("#validation path.leader")];
  const heights = leaders.map((leader) => leader.getAttribute("d").match(/ [0-9.]+/g).map(Number));
  const chart = document.querySelector("#validation svg");
  return [heights.map(([end]) => end), heights.map(([, place]) => place), +chart.getAttribute("height")];
}"""
"""Heights of the curves' ends, of their names, and of the chart."""

ODD = ["one-validates", "all-equal", "odd-labels", "unlabelled", "nan", "bare", "many", "cluster"]


@pytest.mark.parametrize("kind", slow_but(1, ODD))
def test_in_a_browser(tmp_path: Path, browser: object, kind: str) -> None:
    from playwright.sync_api import Browser

    assert isinstance(browser, Browser)
    is_nan = kind == "nan"
    result = {"validation_loss": math.nan if is_nan else 0.1}
    record = finished(tmp_path, kind if kind in DATA else "usual", result, math.nan if is_nan else 0.0)
    records = many(record) if kind == "many" else cluster(record) if kind == "cluster" else [record]
    write_page(records, tmp_path / "x.html", allow_all if kind in DATA else allow_local)
    heard: list[str] = []
    page = browser.new_page(viewport={"width": 1000, "height": 800})
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.goto((tmp_path / "x.html").as_uri())
    page.get_by_role("button", name="multiply-adds", exact=True).click()
    assert page.evaluate(MISPLACED) == []
    page.locator("tbody tr").first.click()
    page.locator("#filter").fill("no such run")
    page.locator("#filter").fill("")
    drawn = page.locator("main").inner_html()
    assert heard == []
    for word in ("NaN", "Infinity", "undefined"):
        assert word not in drawn
    if kind in ("one-validates", "all-equal"):
        assert "validation images are equal" in page.locator("#pca-caption").inner_text()
        chart, dot = page.locator("#pca svg").bounding_box(), page.locator("#pca circle").first.bounding_box()
        assert chart
        assert dot
        assert abs(chart["x"] + chart["width"] / 2 - dot["x"] - dot["width"] / 2) < 2
    page.close()
