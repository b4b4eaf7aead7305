"""The wheel alone is enough: a new user's path, in processes that know nothing of this checkout."""

from __future__ import annotations

import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

from mixcoder.models.named import TRAINED, trained_names
from tests.conftest import slow
from tests.new_user import ROOT, borrowed_environment, build_wheel, follow_readme, readme_commands, run_alone

STEPS = {
    "experiments", "plan", "run", "table", "plot", "report", "reconstruct",
    "encode", "decode", "score", "walk", "export",
}  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel") / "dist"
    folder.mkdir()
    return build_wheel(folder)


def test_the_wheel_holds_what_it_should(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        [metadata] = [archive.read(name) for name in names if name.endswith("/METADATA")]
    assert {"mixcoder/py.typed", "mixcoder/experiments/shipped/mnist/kernel-sizes.yml"} <= names
    modules = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").rglob("*.py")}
    assert modules <= names  # a rule of .gitignore may hide a whole folder
    assert "mixcoder/data/sources/digits.npz" in names
    assert any(name.endswith("/digits.LICENSE.txt") for name in names)
    assert any(name.endswith("/licenses/LICENSE") for name in names)
    assert all(name.startswith(("mixcoder/", "mixcoder-")) for name in names)
    stated = message_from_bytes(metadata)
    assert stated["License-Expression"] == "Apache-2.0 AND CC-BY-4.0"
    assert stated["Requires-Python"] == ">=3.11"
    assert {"onnx", "hub", "tensorboard"} <= set(stated.get_all("Provides-Extra") or [])
    trained = {str(path.relative_to(ROOT / "src")) for path in TRAINED.rglob("*") if path.is_file()}
    assert trained <= names
    assert wheel.stat().st_size < 3_000_000


@slow
def test_a_new_user_gets_from_the_wheel_to_onnx(wheel: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "environment").mkdir()
    programs = borrowed_environment(tmp_path / "environment", wheel)
    place = run_alone([programs / "python", "-c", "import mixcoder; print(mixcoder.__file__)"], tmp_path)
    assert str(tmp_path) in place
    assert str(ROOT / "src") not in place
    for name in trained_names():
        program = f"import mixcoder; print(mixcoder.load('{name}').latent_shape)"
        assert run_alone([programs / "python", "-c", program], tmp_path / "empty") == "(16,)\n"
    follow_readme(
        programs,
        tmp_path / "empty",
        [
            "mixcoder experiments cp digits/demo",
            "mixcoder run mine.yml training.inputs=640",
            "mixcoder export runs/mine -o onnx",
        ],
    )
    assert (tmp_path / "empty" / "demo.yml").exists()


def test_the_readme_takes_every_step() -> None:
    assert {command.split()[1] for command in readme_commands()} >= STEPS
