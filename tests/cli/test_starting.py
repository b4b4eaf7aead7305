"""`mixcoder new` writes files that work as they are: their tests pass, and every command takes them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Cli

FILE = """\
name: mine
data: {source: digits}
model: {type: mixer, patch_size: 4, hidden_channels: [8], latent_dim: 4, mixer_at: [1]}
training: {learning_rate: 0.01, inputs: 640, validations: 1}
"""
USES = {
    "mixer": ["model.mixer={name: my_own, share: 0.9}"],
    "model": ["model={type: my_own, latent_dim: 8}"],
    "source": ["data={source: my_own, count: 100}"],
}


@pytest.mark.parametrize("kind", USES)
def test_what_is_written_is_sound_and_used_at_once(kind: str, cli: Cli, tmp_path: Path) -> None:
    status, out, err = cli("new", kind, "my_own", "parts")
    assert (status, out) == (0, "parts/my_own.py\nparts/test_my_own.py\n"), err
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_my_own.py"],
        cwd=tmp_path / "parts", env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert tests.returncode == 0, tests.stdout
    (tmp_path / "x.yml").write_text(FILE)
    status, _, err = cli("--plugin", "parts/my_own.py", "run", "x.yml", *USES[kind])
    assert status == 0, err


@pytest.mark.parametrize("kind", USES)
def test_it_keeps_to_the_rules_of_this_project(kind: str, cli: Cli, tmp_path: Path) -> None:
    assert cli("new", kind, "my_own")[0] == 0
    ruff = [sys.executable, "-m", "ruff"]
    if subprocess.run([*ruff, "--version"], capture_output=True).returncode:
        pytest.skip("needs ruff: pip install 'mixcoder[check]'")
    rules = ["--isolated", "--line-length", "110", "--select", "E,F,I,W,UP,B", "."]
    checked = subprocess.run([*ruff, "check", *rules], cwd=tmp_path, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_nothing_is_written_over(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "test_my_own.py").write_text("mine")
    status, _, err = cli("new", "mixer", "my_own")
    assert status == 2
    assert "test_my_own.py is there already; take another name or folder" in err
    assert [path.name for path in tmp_path.iterdir()] == ["test_my_own.py"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cnnf", "there is a mixing layer 'cnnf' already"),
        ("My-Layer", "must be small letters, digits and '_', such as my_mixer"),
        ("class", "must be small letters"),
        ("../x", "must be small letters"),
    ],
)
def test_a_name_that_cannot_be_is_refused(name: str, message: str, cli: Cli, tmp_path: Path) -> None:
    status, _, err = cli("new", "mixer", name)
    assert status == 2
    assert message in err
    assert not list(tmp_path.iterdir())
