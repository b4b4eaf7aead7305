"""The report: whole, offline, and alive in a real browser."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mixcoder.experiments.file.spec import read_experiment
from mixcoder.experiments.results.records import records_in, records_of
from mixcoder.experiments.runs.training_run import train_run
from mixcoder.report.page import render_page, write_page
from tests.conftest import Cli, slow_but

SWEEP = """\
name: mine
data: {source: digits}
model:
  type: mixer
  patch_size: 4
  hidden_channels: [9]
  latent_dim: ${latent.size}
  mixer_at: [1]
  mixer: ${mixer}
training: {learning_rate: 0.01, inputs: 3_200, validations: 8, seed: "${seed}"}
matrix:
  mixer: [cnn, mlp]
  latent: [{name: "narrow </script><img src=x onerror=alert(1)>", size: 2}, {name: wide, size: 8}]
  seed: [0]
"""
HOSTILE = "narrow </script><img src=x onerror=alert(1)>"


def embedded(page: str) -> dict[str, list[dict[str, object]]]:
    [text] = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, flags=re.S)
    content: dict[str, list[dict[str, object]]] = json.loads(text)
    return content


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of three finished runs and one that has not begun."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "x.yml").write_text(SWEEP)
    experiment = read_experiment(folder / "x.yml")
    for run in experiment.runs[:3]:
        train_run(run, folder / "runs", lambda loop, progress: None)
    write_page(records_of(experiment, folder / "runs"), folder / "page.html")
    return folder / "page.html"


def test_all_sections_are_there(report: Path) -> None:
    page = report.read_text()
    for section in ("results", "curves", "cost", "pictures", "latents", "differences", "provenance"):
        assert f'<section id="{section}">' in page
    runs = embedded(page)["runs"]
    assert [run["state"] for run in runs] == ["done", "done", "done", "open"]
    assert [bool(run["latents"]) for run in runs] == [True, True, True, False]
    assert all(len(run["validation"]) == 8 for run in runs[:3])  # type: ignore[arg-type]
    assert page.count('class="strip"') == 3
    assert "torch 2." in page
    assert "type: mixer" in page


def test_nothing_in_it_asks_the_network_and_no_name_is_code(report: Path) -> None:
    page = report.read_text()
    assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", page)
    assert "default-src 'none'" in page
    assert "<img src=x" not in page
    assert HOSTILE in json.dumps(embedded(page)["runs"][0]["name"])


def test_the_same_runs_give_the_same_page(report: Path) -> None:
    records = records_in(report.parent / "runs" / "mine")
    assert render_page(records) == render_page(records)


def test_the_figures_are_those_of_the_run_directories(report: Path) -> None:
    losses = {record.result["validation_loss"] for record in records_in(report.parent / "runs" / "mine")}
    shown = {run["loss"] for run in embedded(report.read_text())["runs"]}
    assert shown == {*losses, None}


def test_refusals(cli: Cli) -> None:
    Path("x.yml").write_text(SWEEP)
    assert cli("report", "x.yml", "-o", "page.txt")[2] == "error: output: 'page.txt' does not end in .html\n"
    assert "no run fits mixer=cnn2d" in cli("report", "x.yml", "-o", "p.html", "--where", "mixer=cnn2d")[2]
    status, _, err = cli("report", "runs", "-o", "p.html")
    assert (status, "runs" in err, Path("p.html").exists()) == (2, True, False)


def test_before_anything_is_trained(cli: Cli) -> None:
    Path("x.yml").write_text(SWEEP)
    assert cli("report", "x.yml", "-o", "p.html")[:2] == (0, "p.html\n")
    assert [run["state"] for run in embedded(Path("p.html").read_text())["runs"]] == ["open"] * 4


@pytest.mark.parametrize("width", slow_but(1, [1280, 390]))
@pytest.mark.parametrize("scheme", slow_but(1, ["light", "dark"]))
def test_in_a_browser(report: Path, browser: object, width: int, scheme: str) -> None:
    """No console message, no request; the table sorts and filters, the curves tell their values."""
    from playwright.sync_api import Browser

    assert isinstance(browser, Browser)
    heard: list[str] = []
    asked: list[str] = []
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("dialog", lambda dialog: heard.append(dialog.message))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())

    def losses() -> list[str]:
        return [text for text in page.locator("td.validation_loss").all_inner_texts() if text]

    for direction, descending in (("ascending", False), ("descending", True)):
        page.get_by_role("button", name="validation loss").click()
        assert page.locator("th", has_text="validation loss").get_attribute("aria-sort") == direction
        assert losses() == sorted(losses(), reverse=descending)
    assert len(losses()) == 3

    curve = page.locator("#validation path.curve").first
    curve.scroll_into_view_if_needed()
    page.mouse.move(0, 0)
    box = page.locator("#validation .chart, #validation").first.bounding_box()
    assert box is not None
    ends = page.evaluate(
        "() => { const path = document.querySelector('#validation path.curve');"
        "const at = path.getPointAtLength(path.getTotalLength() * 0.8).matrixTransform(path.getScreenCTM());"
        "return [at.x, at.y]; }"
    )
    page.mouse.move(*ends)
    tip = page.locator("#tip")
    assert tip.is_visible()
    assert re.search(r"validation loss 0\.\d+ after [\d,]+ inputs", tip.inner_text())
    assert page.locator("tbody tr.lit").count() == 1
    page.mouse.move(0, 0)

    page.locator("#filter").fill("mixer=cnn")
    assert page.locator("tbody tr:visible").count() == 2
    assert page.locator("#validation path.curve").count() == 2
    page.locator("#filter").fill("")

    page.get_by_role("button", name="multiply-adds", exact=True).click()
    assert page.locator("#pareto circle").count() == 3

    before = page.locator("#samples").get_attribute("src")
    page.locator("#latent-run").select_option(index=2)
    assert page.locator("#samples").get_attribute("src") != before
    assert "training codes" in page.locator("#probe").inner_text()
    assert page.locator("#pca circle").count() == 297

    page.locator("#theme").click()
    assert page.locator("html").get_attribute("data-theme") in ("light", "dark")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert (heard, [url for url in asked if not url.startswith("data:")]) == ([], [report.as_uri()])
    page.close()
