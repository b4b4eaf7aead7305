"""The experiments that come with the package: listed, copied, and theirs to run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import stamina
import torch

from mixcoder.experiments.file.shipped import shipped_folder, shipped_names
from mixcoder.experiments.file.spec import read_experiment
from mixcoder.experiments.results.article import article_tables
from mixcoder.models.summary import count_parameters
from tests.conftest import Cli


def test_listing(cli: Cli) -> None:
    rows = {row["name"]: row for row in json.loads(cli("experiments", "ls", "--format", "json")[1])}
    assert sorted(rows) == shipped_names()
    of_article = {name for name in rows if name.startswith(("mnist/", "photos/"))} - {"mnist/first"}
    assert sum(rows[name]["runs"] for name in of_article) == 64
    assert rows["mnist/kernel-sizes"]["runs"] == 28
    assert rows["mnist/kernel-sizes"]["expected"].startswith("0.0066 … 0.0105 validation loss")
    search = rows["digits/search"]
    assert (search["runs"], search["trials"]) == (None, 16), "whose results decide how many runs there are"
    assert rows["mnist/kernel-sizes"]["trials"] is None
    assert "conv-mixing" in cli("experiments", "ls")[1]


@pytest.mark.parametrize("name", shipped_names())
def test_copies_are_whole(cli: Cli, name: str) -> None:
    status, out, _ = cli("experiments", "cp", name, "mine")
    assert status == 0
    copy = Path(out.splitlines()[0])
    assert copy == Path("mine") / f"{name.rpartition('/')[2]}.yml"
    original = read_experiment(shipped_folder() / f"{name}.yml")
    assert read_experiment(copy) == original


def test_editors_find_the_schema_beside_the_copies(cli: Cli) -> None:
    """Also in a folder that has one, which stays: it may know of plugins."""
    out = cli("experiments", "cp", "kernel-sizes", "mine")[1]
    assert out.split() == ["mine/kernel-sizes.yml", "mine/conv-mixing.yml", "mine/experiment.schema.json"]
    for copy in out.split()[:2]:
        [modeline] = [line for line in Path(copy).read_text().splitlines() if "$schema" in line]
        assert modeline == "# yaml-language-server: $schema=experiment.schema.json"
    schema = Path("mine/experiment.schema.json")
    assert schema.read_text() == cli("schema")[1]
    schema.write_text("{}")
    assert cli("experiments", "cp", "first", "mine")[1] == "mine/first.yml\n"
    assert schema.read_text() == "{}"


def test_nothing_is_overwritten(cli: Cli) -> None:
    Path("conv-mixing.yml").write_text("mine")
    status, _, err = cli("experiments", "cp", "kernel-sizes.yml")
    assert (status, err) == (2, "error: folder: conv-mixing.yml is there already; name another folder\n")
    assert [path.name for path in Path().iterdir()] == ["conv-mixing.yml"]


def test_copying_goes_on_after_a_kill(cli: Cli) -> None:
    """What was copied already is no reason to refuse."""
    whole = cli("experiments", "cp", "kernel-sizes", "mine")
    texts = {path: path.read_bytes() for path in Path("mine").iterdir()}
    Path("mine/conv-mixing.yml").unlink()
    assert cli("experiments", "cp", "kernel-sizes", "mine")[:2] == (
        0,
        "mine/kernel-sizes.yml\nmine/conv-mixing.yml\n",
    )
    assert whole[0] == 0
    assert {path: path.read_bytes() for path in Path("mine").iterdir()} == texts


def test_unknown_names(cli: Cli) -> None:
    assert "did you mean 'mnist/kernel-sizes'?" in cli("experiments", "cp", "mnist/kernel-size")[2]
    assert "there is no experiment '../../pyproject'" in cli("experiments", "cp", "../../pyproject")[2]


@pytest.mark.parametrize("name", shipped_names())
def test_each_opens_with_what_to_expect(name: str) -> None:
    first_line = (shipped_folder() / f"{name}.yml").read_text(encoding="utf-8").partition("\n")[0]
    assert first_line.startswith("# expected: ")
    assert first_line.endswith(f" · mixcoder run experiments/{name}.yml")


@pytest.mark.usefixtures("empty_cache")
def test_photos_are_planned_without_being_there() -> None:
    """The parameters of the article's 13 photo rows, on a machine without a single photo."""
    params = []
    for name in ("patch-sizes", "narrow-head", "pixel-unshuffle"):
        for run in read_experiment(shipped_folder() / "photos" / f"{name}.yml").runs:
            assert run.total_steps == 15_625
            with torch.device("meta"):
                params.append(count_parameters(run.create_model()))
    photo_rows = [
        row
        for table in article_tables().values()
        for row in table
        if row["model"]["image_shape"] == [3, 96, 96]
    ]
    assert sorted(params) == sorted(row["params"] for row in photo_rows)
    assert len(params) == 13


@pytest.mark.usefixtures("empty_cache")
def test_photos_that_cannot_be_fetched(cli: Cli) -> None:
    with stamina.set_testing(True):
        status, _, err = cli("run", shipped_folder() / "photos" / "narrow-head.yml")
    assert status == 2
    assert "unsplash is not on this machine and cannot be fetched; put its zip archive into" in err
    assert not list(Path().rglob("config.yml"))
