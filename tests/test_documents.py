"""README and docs tell the truth: their code runs, their commands work, their errors read so."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mixcoder.data import SOURCES
from mixcoder.experiments.results import records_of, result_rows
from mixcoder.experiments.spec import read_experiment
from mixcoder.experiments.training_run import train_run
from mixcoder.models import create_model
from mixcoder.signatures import signature_schema
from mixcoder.training.recipe import Recipe
from tests.conftest import Cli

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(document: str, language: str) -> list[str]:
    """The fenced blocks of a document that are marked with `language`."""
    text = (ROOT / document).read_text(encoding="utf-8")
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.S | re.M)
    return [block for mark, block in fenced if mark == language]


def commands(block: str) -> list[list[str]]:
    lines = [line for line in block.splitlines() if line.startswith("mixcoder ")]
    return [shlex.split(line, comments=True)[1:] for line in lines]


def test_readme_first_experiment(cli: Cli) -> None:
    [experiment] = blocks("README.md", "yaml")
    Path("mine.yml").write_text(experiment)
    ran = [command for block in blocks("README.md", "sh") for command in commands(block)]
    assert len(ran) == 14
    for command in ran:
        assert cli(*command)[0] == 0
    assert all(Path(name).stat().st_size > 1000 for name in ("grid.png", "curves.svg", "report.html"))


def test_reports_document(cli: Cli) -> None:
    [experiment] = blocks("README.md", "yaml")
    matrix = "matrix: {mixer: [cnn, cnnf], seed: [0, 1]}\n"
    swept = experiment.replace("mixer: cnnf", "mixer: ${mixer}").replace("20_000", "640\n  seed: ${seed}")
    Path("mine.yml").write_text(swept + matrix)
    for run in read_experiment(Path("mine.yml")).runs:
        train_run(run, Path("runs"), lambda trainer, progress: None)
    ran = [command for block in blocks("docs/reports.md", "sh") for command in commands(block)]
    assert len(ran) == 8
    for command in ran:
        assert cli(*command)[0] == 0
    row = result_rows(records_of(read_experiment(Path("mine.yml")), Path("runs")))[0]
    text = (ROOT / "docs" / "reports.md").read_text(encoding="utf-8")
    assert all(f"`{key}`" in text for key in row if key not in ("mixer", "seed"))


@pytest.mark.usefixtures("empty_cache")
def test_data_document(cli: Cli) -> None:
    [experiment] = blocks("docs/data.md", "yaml")
    Path("mine.yml").write_text(experiment)
    Path("photos").mkdir()
    generator = np.random.default_rng(0)
    for i in range(40):
        pixels = generator.integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(Path("photos", f"{i}.png"))
    assert cli("run", "mine.yml", "training.inputs=640")[0] == 0
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    for name in SOURCES:
        assert f"`{name}`" in text
        for argument in signature_schema(SOURCES[name]).model_fields:
            assert f"`{argument}`" in text or f"`{argument}: " in text


def test_readme_error(cli: Cli) -> None:
    [experiment] = blocks("README.md", "yaml")
    Path("mine.yml").write_text(experiment.replace("mixer: cnnf", "mixer: cnf"))
    [error] = blocks("README.md", "")[:1]
    assert cli("run", "mine.yml")[2] == error


def test_readme_python(capsys: pytest.CaptureFixture[str]) -> None:
    [program] = blocks("README.md", "python")
    exec(compile(program, "README.md", "exec"), {})
    assert "torch.Size([5, 8])" in capsys.readouterr().out


def test_experiment_file_document(tmp_path: Path) -> None:
    experiment, matrix = blocks("docs/experiment-file.md", "yaml")
    (tmp_path / "x.yml").write_text(matrix)
    assert len(read_experiment(tmp_path / "x.yml").runs) == 3 * 2 * 2 * 2 - 4 + 1
    (tmp_path / "x.yml").write_text(experiment)
    assert read_experiment(tmp_path / "x.yml").runs[0].recipe.inputs == 1_000_000
    text = (ROOT / "docs" / "experiment-file.md").read_text(encoding="utf-8")
    for key in Recipe.model_fields:
        assert f"`{key}`" in text
    for name in ("mixer", "cnn", "script"):
        assert f"`type: {name}`" in text


def test_script_document(cli: Cli) -> None:
    text = (ROOT / "docs" / "script-language.md").read_text(encoding="utf-8")
    script, _, error = (block.strip("\n") for block in blocks("docs/script-language.md", ""))
    assert create_model("script", image_shape=(3, 96, 96), script=script).latent_shape == (1, 24, 24)
    [shown] = re.findall(r"`mixcoder (models show script .*?)` shows", text)
    assert cli(*shlex.split(shown))[0] == 0
    model = '{type: script, script: "ch=8|up2|ch=1"}'
    Path("x.yml").write_text(f"name: mine\ndata: {{source: mnist}}\nmodel: {model}\ntraining: {{steps: 1}}\n")
    assert cli("run", "x.yml")[2] == f"{error}\n"


def test_mixing_layers_document(cli: Cli) -> None:
    [plugin] = blocks("docs/mixing-layers.md", "python")
    [experiment] = blocks("README.md", "yaml")
    Path("shift.py").write_text(plugin)
    Path("mine.yml").write_text(experiment)
    ran = [command for block in blocks("docs/mixing-layers.md", "sh") for command in commands(block)]
    assert len(ran) == 2
    for command in ran:
        assert cli(*command)[0] == 0


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", document.read_text(encoding="utf-8")):
        if not target.startswith("https://"):
            assert (document.parent / target).exists(), target


def test_make_help_lists_every_command() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.findall(r"^\.PHONY: (\S+)$", text, flags=re.M)
    assert all(re.search(rf"^{target}:.* ## \S", text, flags=re.M) for target in phony)


def test_the_pins_are_within_the_ranges() -> None:
    """What is tested with is what pyproject.toml allows."""
    from importlib.metadata import requires

    from packaging.requirements import Requirement

    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    )
    core = [Requirement(text) for text in requires("mixcoder") or [] if "extra ==" not in text]
    assert len(core) >= 10
    for requirement in core:
        assert pins[requirement.name] in requirement.specifier
