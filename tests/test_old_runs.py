"""Runs that an older Mixcoder made: a newer one goes on with them, and comes to the same bytes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import mixcoder
from tests.conftest import Cli
from tests.old_runs import EXPERIMENTS, FOLDER, INTERRUPTED_AT, OUTCOME, experiment, probe


def older_run(name: str, folder: Path) -> Path:
    """Copies a run and its experiment file; returns its directory."""
    shutil.copytree(FOLDER / name / "interrupted", folder / "runs")
    shutil.copy(FOLDER / name / f"{name}.yml", folder)
    [directory] = (folder / "runs" / name).iterdir()
    return directory


def numbers_of(path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Every number of a file of `OUTCOME`, by name."""
    if path.suffix == ".safetensors":
        yield from sorted(load_file(path).items())
    elif path.suffix == ".jsonl":
        for line in path.read_text().splitlines():
            yield from ((key, torch.tensor(value).double()) for key, value in json.loads(line).items())


def without_later_keys(path: Path) -> dict[str, Any]:
    """A description of a model, without arguments that came later, with the values that change nothing."""
    description: dict[str, Any] = json.loads(path.read_bytes())
    arguments = description["arguments"]
    later = {key: arguments.pop(key) for key in ("residual_scale", "refine") if key in arguments}
    assert set(later.values()) <= {None}
    return description


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_runs_of_an_older_mixcoder_end_with_the_same_bytes(name: str, cli: Cli, tmp_path: Path) -> None:
    """To the byte where a processor computes what that of the older runs did, else to a hundred-thousandth.

    Muon orthogonalized in bfloat16 then, and does in float32 now: some thousandths.
    """
    directory = older_run(name, tmp_path)
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    rows = len((directory / "metrics.jsonl").read_text().splitlines())
    assert rows == (40 if name == "finished" else INTERRUPTED_AT)
    status, _, err = cli("run", f"{name}.yml", "--device", "cpu")
    assert status == 0, err
    if name == "finished":
        assert {path: path.read_bytes() for path in before} == before
    is_same_processor = json.loads((FOLDER / "machine.json").read_text())["probe"] == probe()
    tolerance = 5e-3 if "muon" in name else 1e-5
    is_exact = is_same_processor and "muon" not in name
    for file in OUTCOME:
        found, expected = directory / file, FOLDER / name / "ended" / file
        if file == "model.json":
            assert without_later_keys(found) == json.loads(expected.read_bytes())
        elif is_exact:
            assert found.read_bytes() == expected.read_bytes(), file
        for (key, value), (other, wanted) in zip(numbers_of(found), numbers_of(expected), strict=True):
            assert key == other
            torch.testing.assert_close(value, wanted, rtol=tolerance, atol=tolerance)


def test_results_of_an_older_mixcoder_are_read(cli: Cli, tmp_path: Path) -> None:
    directory = older_run("finished", tmp_path)
    status, out, err = cli("table", "finished.yml", "--format", "json")
    assert (status, err) == (0, "")
    [row] = json.loads(out)
    result = json.loads((directory / "result.json").read_text())
    assert {key: row[key] for key in ("validation_loss", "params", "state")} == {
        "validation_loss": pytest.approx(result["validation_loss"]),
        "params": result["params"],
        "state": "done",
    }
    assert mixcoder.load(directory).latent_shape == (3,)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_older_runs_are_of_the_experiments_that_the_script_states(name: str) -> None:
    assert (FOLDER / name / f"{name}.yml").read_text() == experiment(name)
