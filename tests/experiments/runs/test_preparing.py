"""Results and checkpoints belong to their images, whatever lies in the folder later."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from mixcoder.experiments.file.spec import read_experiment
from mixcoder.experiments.runs.training_run import train_run
from mixcoder.training.training_loop import Progress, TrainingLoop
from tests.conftest import Cli, slow
from tests.data.pictures import noise

FILE = """\
name: c
data: {source: folder, path: photos, crop_size: 8}
model: {type: mixer, patch_size: 4, hidden_channels: [16, 16], latent_dim: 8}
training: {inputs: 640, batch_size: 8, validations: 2}
"""
HASHES = r"\([0-9a-f]{12}…, now they are [0-9a-f]{12}…\)"


def pictures(folder: Path, count: int, seed: int = 0) -> None:
    folder.mkdir(exist_ok=True, parents=True)
    for i in range(count):
        noise(20, 20, seed + i).save(folder / f"{i}.png")


@pytest.fixture
def project(tmp_path: Path, empty_cache: Path) -> Path:
    """An experiment file beside its pictures."""
    pictures(tmp_path / "photos", 40)
    (tmp_path / "b.yml").write_text(FILE)
    return tmp_path


def result(project: Path) -> dict[str, object]:
    [path] = project.rglob("result.json")
    content: dict[str, object] = json.loads(path.read_text())
    return content


def test_a_result_is_not_shown_for_other_pictures(cli: Cli, project: Path) -> None:
    assert cli("run", "b.yml")[0] == 0
    before = result(project)
    assert cli("run", "b.yml")[0] == 0
    pictures(project / "photos", 60)
    status, out, err = cli("run", "b.yml")
    assert (status, out) == (2, "")
    last = err.splitlines()[-1]
    assert last.startswith("error: runs/c/mixer-folder-")
    assert "trained on other images (" in last
    assert str(before["data_hash"])[:12] in last
    assert last.endswith("or keep both with another name, such as name=c-2")
    assert result(project) == before
    assert cli("table", "b.yml")[0] == 0, "a table reads no pictures"
    assert cli("run", "b.yml", "name=c-2")[0] == 0
    shutil.rmtree(project / "runs" / "c")
    assert cli("run", "b.yml")[0] == 0


@slow
def test_a_matrix_of_results_is_told_once(cli: Cli, project: Path) -> None:
    matrix = "matrix: {seed: [0, 1, 2]}\n"
    (project / "b.yml").write_text(FILE.replace("inputs: 640", 'inputs: 16, seed: "${seed}"') + matrix)
    assert cli("run", "b.yml", "-j", "2")[0] == 0
    assert cli("run", "b.yml")[0] == 0
    pictures(project / "photos", 10, seed=5)
    status, _, err = cli("run", "b.yml")
    assert status == 2
    assert err.count("trained on other images") == 1
    assert " and 2 more: " in err


@slow
def test_results_of_different_pictures_are_not_mixed(cli: Cli, project: Path) -> None:
    """As two machines of a cluster may have them in folders of one name."""
    (project / "b.yml").write_text(
        FILE.replace("inputs: 640", 'inputs: 16, seed: "${seed}"') + "matrix: {seed: [0, 1]}"
    )
    assert cli("run", "b.yml")[0] == 0
    first, second = sorted(project.rglob("result.json"))
    there = {**json.loads(second.read_text()), "data_hash": "f" * 64}
    second.write_text(json.dumps(there))
    shutil.rmtree(project / "photos")
    status, out, err = cli("run", "b.yml")
    assert (status, out) == (2, "")
    assert (
        f"{first.parent.relative_to(project)} and {second.parent.relative_to(project)} were trained on" in err
    )
    assert "different images (" in err
    assert "and ffffffffffff" in err


def test_pictures_that_are_gone_leave_results_to_be_seen(cli: Cli, project: Path) -> None:
    assert cli("run", "b.yml")[0] == 0
    shutil.rmtree(project / "photos")
    status, out, err = cli("run", "b.yml")
    assert status == 0
    assert "mixer-folder-" in out
    assert "finished runs are shown as they are, their images cannot be read now (photos: there is no " in err


def test_two_projects_with_one_folder_of_runs_do_not_share_a_result(
    cli: Cli, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seed in (("A", 0), ("B", 500)):
        pictures(project / name / "photos", 40, seed)
        (project / name / "b.yml").write_text(FILE)
    monkeypatch.chdir(project / "A")
    assert cli("run", "b.yml", "--runs", project / "shared")[0] == 0
    monkeypatch.chdir(project / "B")
    status, _, err = cli("run", "b.yml", "--runs", project / "shared")
    assert status == 2
    assert "trained on other images" in err
    monkeypatch.chdir(project)
    assert cli("run", "A/b.yml", "--runs", project / "shared")[0] == 0, "the same project from elsewhere"


def test_a_checkpoint_is_not_continued_with_other_pictures(cli: Cli, project: Path) -> None:
    [run] = read_experiment(project / "b.yml", []).runs

    def interrupt(loop: TrainingLoop, progress: Progress) -> None:
        if progress.step > 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Exception, match="interrupted after"):
        train_run(run, project / "runs", interrupt)
    [checkpoint] = project.rglob("latest.safetensors")
    before = checkpoint.read_bytes()
    shutil.copytree(project / "photos", project / "kept")
    pictures(project / "photos", 40, seed=100)
    status, _, err = cli("run", "b.yml")
    assert status == 2
    assert "latest.safetensors: was saved by a run on other images (" in err
    assert err.rstrip().endswith("checkpoint to begin anew")
    assert checkpoint.read_bytes() == before
    shutil.rmtree(project / "photos")
    (project / "kept").rename(project / "photos")
    assert cli("run", "b.yml")[0] == 0


def test_paths_of_a_file_begin_at_the_file_and_those_of_the_command_line_here(
    cli: Cli, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli("run", "b.yml")[0] == 0
    [config] = project.rglob("config.yml")
    (project / "elsewhere").mkdir()
    monkeypatch.chdir(project / "elsewhere")
    for file in (project / "b.yml", "../b.yml", config):
        status, _, err = cli("run", file, "--runs", project / "runs")
        assert (status, err) == (0, ""), file
    status, _, err = cli("run", "../b.yml", "data.path=photos", "training.inputs=16")
    assert status == 2
    assert "photos: there is no such folder" in err
    pictures(project / "elsewhere" / "photos", 10, seed=3)
    assert cli("run", "../b.yml", "data.path=photos", "training.inputs=16")[0] == 0


CHILD = "extends: sub/base.yml\nname: child\n"
ROOTS = {
    "of the file": ({"x.yml": FILE}, [], "here/photos"),
    "of the file extended": ({"x.yml": CHILD, "sub/base.yml": FILE}, [], "here/sub/photos"),
    "of the file that extends": (
        {"x.yml": CHILD + "data: {path: mine}\n", "sub/base.yml": FILE},
        [],
        "here/mine",
    ),
    "of the command line": ({"x.yml": FILE}, ["data.path=mine"], "mine"),
    "of the command line, as a map": (
        {"x.yml": FILE},
        ["data={source: folder, path: mine, crop_size: 8}"],
        "mine",
    ),
    "absolute": ({"x.yml": FILE.replace("photos", "/photos")}, [], "/photos"),
    "of a home": ({"x.yml": FILE.replace("photos", "~/photos")}, [], "~/photos"),
    "a pattern": ({"x.yml": FILE.replace("photos", "'photos/**/*.png'")}, [], "here/photos/**/*.png"),
    "of a matrix": (
        {"x.yml": CHILD + "matrix: {which: [mine]}\n", "sub/base.yml": FILE.replace("photos", "'${which}'")},
        [],
        "here/mine",
    ),
    "of a matrix on the command line": (
        {"x.yml": FILE.replace("photos", "'${which}/deep'") + "matrix: {which: [mine]}\n"},
        ["matrix.which=[theirs]"],
        "theirs/deep",
    ),
    "of a matrix of sources": (
        {
            "x.yml": CHILD + "matrix: {which: [{source: folder, path: mine}]}\n",
            "sub/base.yml": FILE.replace("{source: folder, path: photos, crop_size: 8}", "${which}"),
        },
        [],
        "here/mine",
    ),
    "stated": ({"x.yml": FILE + "relative_to: ../other\n"}, [], "here/../other/photos"),
    "stated, and of the command line": (
        {"x.yml": FILE + "relative_to: ../other\n"},
        ["data.path=mine"],
        "mine",
    ),
}


@pytest.mark.parametrize("name", ROOTS)
def test_where_a_path_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    files, overrides, wanted = ROOTS[name]
    monkeypatch.chdir(tmp_path)
    for path, content in files.items():
        (tmp_path / "here" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "here" / path).write_text(content)
    [run] = read_experiment(Path("here/x.yml"), overrides).runs
    assert run.create_source().places == [wanted]  # type: ignore[attr-defined]


def test_the_configuration_of_a_run_has_its_digest_wherever_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths count as they are stated, so that a project that moves keeps its runs."""
    from mixcoder.experiments.runs.run_directory import RunDirectory

    (tmp_path / "b.yml").write_text(FILE)
    both = FILE.replace("path: photos", "train: a, validation: b")
    (tmp_path / "both.yml").write_text(both)
    for file, overrides in (("b.yml", []), ("b.yml", ["data.path=x"]), ("both.yml", ["data.train=c"])):
        monkeypatch.chdir(tmp_path.parent)
        [run] = read_experiment(tmp_path / file, overrides).runs
        directory = RunDirectory(tmp_path / "elsewhere" / "run")
        directory.write_config(run)
        monkeypatch.chdir(tmp_path)
        again = directory.read_run()
        assert again.digest == run.digest
        places = [Path(tmp_path.parent, place) for place in run.create_source().places]  # type: ignore[attr-defined]
        assert [Path(place) for place in again.create_source().places] == places  # type: ignore[attr-defined]


def test_sources_without_paths_have_the_digests_that_they_always_had(tmp_path: Path) -> None:
    (tmp_path / "x.yml").write_text(
        FILE.replace("{source: folder, path: photos, crop_size: 8}", "{source: digits}")
    )
    [run] = read_experiment(tmp_path / "x.yml").runs
    assert run.digest == "24aa24ae62"
    assert "relative_to" not in run.resolved()
    (tmp_path / "b.yml").write_text(FILE)
    assert read_experiment(tmp_path / "b.yml").runs[0].digest == "e69ad22ee0"
