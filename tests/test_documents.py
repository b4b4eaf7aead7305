"""README and docs tell the truth: their code runs, their commands work, their errors read so."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mixcoder.data import SOURCES
from mixcoder.experiments.file.spec import Experiment, read_experiment
from mixcoder.experiments.results.records import records_of, result_rows
from mixcoder.experiments.runs.training_run import train_run
from mixcoder.models import create_model
from mixcoder.registry.signatures import signature_schema
from mixcoder.training.recipe import Recipe
from tests.conftest import Cli, slow
from tests.documents import (
    DOCUMENTS,
    NOT_RUN,
    ROOT,
    assert_shown,
    blocks_of,
    check_spans,
    follow,
    headings_of,
    read_document,
    shortened,
)


def first_experiment() -> str:
    [experiment] = [block.content for block in blocks_of(read_document("README.md")) if block.file]
    return experiment


@pytest.fixture
def reader(cli: Cli, empty_cache: Path) -> Cli:
    """Somebody with forty photos, who has written the README's experiment, at the command line."""
    Path("photos").mkdir()
    generator = np.random.default_rng(0)
    for i in range(40):
        pixels = generator.integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(Path("photos", f"{i}.png"))
    Path("mine.yml").write_text(shortened(first_experiment()))
    return cli


def make_a_matrix() -> Experiment:
    """Makes a matrix of `mine.yml`."""
    experiment = Path("mine.yml").read_text().replace("mixer: cnnf", "mixer: ${mixer}")
    swept = f"{experiment}  seed: ${{seed}}\nmatrix: {{mixer: [cnn, cnnf], seed: [0, 1]}}\n"
    Path("mine.yml").write_text(swept)
    return read_experiment(Path("mine.yml"))


def train_a_matrix() -> None:
    for run in make_a_matrix().runs:
        train_run(run, Path("runs"), lambda loop, progress: None)


def train_two() -> None:
    """What the README does before it uses a model."""
    for override in ([], ["model.mixer=mlp"]):
        train_run(
            read_experiment(Path("mine.yml"), override).runs[0], Path("runs"), lambda loop, progress: None
        )


GIVEN = {"docs/reports.md": train_a_matrix, "docs/using-a-model.md": train_two}
"""What a reader of a page has done before."""


LONG = {"docs/reports.md", "docs/tour.md", "docs/using-a-model.md"}
"""Pages that take more than two seconds to follow."""


@pytest.mark.parametrize(
    "document", [pytest.param(name, marks=slow) if name in LONG else name for name in DOCUMENTS]
)
def test_a_reader_can_follow(document: str, reader: Cli) -> None:
    """Every command works and every program runs, in the order of the page, and prints what is shown."""
    GIVEN.get(document, lambda: None)()
    page = read_document(document)
    follow(shortened(page), reader)
    check_spans(page)


LIES = {
    "```sh\nmixcoder run nowhere.yml\n```\n": "no such file or directory",
    "```sh\nls nowhere\n```\n": "non-zero exit status",
    "    mixcoder run experiments/mnist/first.yml --fast\n": "No such option",
    "    mixcoder run experiments/mnist/first.yml model.mixr=mlp\n": "unknown key 'mixr'",
    "    mixcoder table experiments/mnist/last.yml\n": "no such file or directory",
    "```sh\nmake coffee\n```\n": "make knows no coffee",
    "```\npip install 'mixcoder[coffee]'\n```\n": "coffee",
    "```\nmixcoder data fetch hub name=x/y size=3\n```\n": "unknown key 'size'",
    "```python\nimport mixcoder\nmixcoder.load('nowhere')\n```\n": "holds no trained model",
    "```python\nprint(model)\n```\n": "name 'model' is not defined",
    "```yaml\nname: mine\ndata: {source: digits}\n```\n": "model: is missing",
    "```sh\ntorchrun -m mixcoder run experiments/mnist/first.yml model.mixr=mlp\n```\n": "unknown key 'mixr'",
    "Write `mine.py`:\n\n```python\nimport mixcoder\n```\n": "mine.py",
    "```sh\nmixcoder --version\n```\n```text\nversion …\n```\n": "version … is not in",
    "Say `mixcoder table FILE --order KEY`.\n": "table has no --order",
    "Say `mixcoder models list`.\n": "there is no command list",
    "Say `mixcoder run experiments/mnist/first.yml model.mixr=mlp`.\n": "unknown key 'mixr'",
    "Say `make coffee`.\n": "make knows no coffee",
}
"""Pages that are wrong, and what is found."""


@pytest.mark.parametrize("page", LIES, ids=LIES.values())
def test_a_lie_is_found(page: str, reader: Cli) -> None:
    with pytest.raises(Exception, match=LIES[page]):
        follow(page, reader)
        check_spans(page)


def test_the_truth_is_believed(reader: Cli) -> None:
    page = "Write `a/b.yml`:\n\n```yaml\nx: 1\n```\n```sh\nls a  # what is there\nmixcoder --version\n```\n"
    page += "```text\nb.yml\nmixcoder … \n```\n```python\nx = 2\n```\n```python\nprint('x is', x)\n```\n"
    follow(page + "```text\nx  is 2\n```\n", reader)


def test_only_the_lines_that_are_there_are_shown() -> None:
    printed = "one   1\ntwo 2\nthree 3\n"
    assert_shown("one 1\n…\n", printed)
    assert_shown("two …\nthree 3\n", printed)
    for expected in ("two 3\n", "two 2\none 1\n", "two\n", "one 1\none 1\n"):
        with pytest.raises(AssertionError, match="is not in"):
            assert_shown(expected, printed)


def test_durations_are_shortened_where_they_are_stated_and_shown() -> None:
    page = "x: {inputs: 20_000}\nmixcoder run x.yml training.inputs=120_000\n20,000  120,000  20000\n"
    short = "x: {inputs: 640}\nmixcoder run x.yml training.inputs=640\n640  640  20000\n"
    assert shortened(page) == short


def test_each_reason_not_to_run_a_command_is_needed() -> None:
    commands = [it for name in DOCUMENTS for block in blocks_of(read_document(name)) for it in block.commands]
    for pattern in NOT_RUN:
        assert any(re.match(pattern, command) for command in commands), pattern


@pytest.mark.usefixtures("reader")
def test_reports_document() -> None:
    row = result_rows(records_of(make_a_matrix(), Path("runs")))[0]
    text = read_document("docs/reports.md")
    assert all(f"`{key}`" in text for key in row if key not in ("mixer", "seed"))


def test_data_document() -> None:
    text = read_document("docs/data.md")
    for name in SOURCES:
        assert f"`{name}`" in text
        for argument in signature_schema(SOURCES[name]).model_fields:
            assert f"`{argument}`" in text or f"`{argument}: " in text


def test_readme_error(cli: Cli) -> None:
    Path("mine.yml").write_text(first_experiment().replace("mixer: cnnf", "mixer: cnf"))
    [error] = [it.content for it in blocks_of(read_document("README.md")) if it.content.startswith("error:")]
    assert cli("run", "mine.yml")[2] == error


def test_experiment_file_document(tmp_path: Path) -> None:
    document = read_document("docs/experiment-file.md")
    experiment, matrix, *others = (block.content for block in blocks_of(document) if block.language == "yaml")
    for other in others:  # of parts, and of lists of layers
        (tmp_path / "x.yml").write_text(other)
        assert read_experiment(tmp_path / "x.yml").runs[0].create_model().latent_shape == (16,)
    (tmp_path / "x.yml").write_text(matrix)
    assert len(read_experiment(tmp_path / "x.yml").runs) == 3 * 2 * 2 * 2 - 4 + 1
    (tmp_path / "x.yml").write_text(experiment)
    assert read_experiment(tmp_path / "x.yml").runs[0].recipe.inputs == 1_000_000
    for key in Recipe.model_fields:
        assert f"`{key}`" in document
    for name in ("mixer", "cnn", "script", "stack"):
        assert f"`type: {name}`" in document


def test_script_document(cli: Cli) -> None:
    text = read_document("docs/script-language.md")
    script, error = (block.content.strip("\n") for block in blocks_of(text) if not block.language)
    assert create_model("script", image_shape=(3, 96, 96), script=script).latent_shape == (1, 24, 24)
    [shown] = re.findall(r"`mixcoder (models show script .*?)` shows", text)
    assert cli(*shlex.split(shown))[0] == 0
    model = '{type: script, script: "ch=8|up2|ch=1"}'
    Path("x.yml").write_text(f"name: mine\ndata: {{source: mnist}}\nmodel: {model}\ntraining: {{steps: 1}}\n")
    assert cli("run", "x.yml")[2] == f"{error}\n"


def test_costs_of_refinement_are_those_that_the_command_prints(cli: Cli) -> None:
    text = read_document("docs/refinement.md")
    rows = re.findall(r"^\| `(null|{steps: .})` \|(.*)\|$", text, re.MULTILINE)
    assert len(rows) == 3
    for refine, numbers in rows:
        out = cli("models", "show", "stack", f"refine={refine}")[1]
        params, encode, decode, train = (number.strip() for number in numbers.split("|"))
        assert f"\n{params} parameters, " in out
        assert f": {encode} to encode, {decode} to decode, {train} to train" in out


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    """On GitHub; `test_site` sees to the site."""
    here = ROOT / document
    for link in re.findall(r"\]\(([^)]+)\)", here.read_text(encoding="utf-8")):
        path, _, place = link.partition("#")
        target = here.parent / path if path else here
        if not link.startswith("https://"):
            assert target.exists(), link
            assert not place or place in map(github_anchor, headings_of(target.read_text())), link


def github_anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_make_help_lists_every_command() -> None:
    text = read_document("Makefile")
    phony = re.findall(r"^\.PHONY: (\S+)$", text, flags=re.M)
    assert all(re.search(rf"^{target}:.* ## \S", text, flags=re.M) for target in phony)


def test_the_pins_are_within_the_ranges() -> None:
    """What is tested with is what pyproject.toml allows."""
    from importlib.metadata import requires

    from packaging.requirements import Requirement

    pins = dict(line.split("==") for line in read_document("constraints.txt").splitlines() if "==" in line)
    core = [Requirement(text) for text in requires("mixcoder") or [] if "extra ==" not in text]
    assert len(core) >= 10
    for requirement in core:
        assert pins[requirement.name] in requirement.specifier
