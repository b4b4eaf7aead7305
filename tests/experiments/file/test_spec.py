"""Experiment files: closed vocabulary, every problem told together, resolved and hashed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mixcoder.data.sources.packed import PackedSource
from mixcoder.errors import ExperimentError
from mixcoder.experiments.file.spec import read_experiment
from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.models.summary import count_parameters

FIRST = Path(__file__).parents[3] / "experiments" / "mnist" / "first.yml"
SOUND = """\
name: mine
data: {source: digits}
model:
  type: mixer
  patch_size: 2
  hidden_channels: [9, 4]
  latent_dim: 3
training: {epochs: 1}
"""


def write(tmp_path: Path, text: str = SOUND) -> Path:
    path = tmp_path / "x.yml"
    path.write_text(text)
    return path


def test_first_is_the_articles_mixer() -> None:
    [run] = read_experiment(FIRST).runs
    assert count_parameters(run.create_model()) == 35_249
    assert run.recipe.total_steps(60_000) == 15_625
    assert run.create_model().compression_ratio == 49


@pytest.mark.parametrize("path", sorted(FIRST.parents[1].rglob("*.yml")), ids=lambda path: path.stem)
def test_every_shipped_experiment_is_sound_and_opens_with_what_to_expect(path: Path) -> None:
    read_experiment(path)
    assert path.read_text().startswith("# expected: ")
    assert f"mixcoder run experiments/{path.parent.name}/{path.name}" in path.read_text()


def test_defaults_are_written_out(tmp_path: Path) -> None:
    resolved = read_experiment(write(tmp_path)).runs[0].resolved()
    taking_part = {"classes": None, "validation_classes": None, "search_holdout": None}
    assert resolved["data"] == {"source": "digits", **taking_part}
    assert resolved["model"]["mixer_at"] == []
    assert resolved["model"]["activation"] == "gelu"
    assert "image_shape" not in resolved["model"]
    assert resolved["training"]["batch_size"] == 64


def test_the_resolved_file_is_the_same_experiment(tmp_path: Path) -> None:
    [run] = read_experiment(write(tmp_path)).runs
    directory = RunDirectory(tmp_path / "run")
    directory.write_config(run)
    assert directory.read_run() == run
    assert directory.read_run().directory_name == run.directory_name


def test_the_run_name_depends_on_what_is_run_and_on_nothing_else(tmp_path: Path) -> None:
    path = write(tmp_path)

    def name(*overrides: str) -> str:
        return read_experiment(path, overrides).runs[0].directory_name

    assert name("training.batch_size=64", "name=other") == name()
    assert name("training.batch_size=65") != name()
    assert name("model.activation=relu") != name()


def test_overrides(tmp_path: Path) -> None:
    [run] = read_experiment(
        write(tmp_path),
        ["training.inputs=50_000", "model.mixer=mlp", "model.mixer_at=[1, 2]", "training.loss=l1"],
    ).runs
    assert run.recipe.inputs == 50_000
    assert run.recipe.epochs is None  # one duration replaces another
    assert run.model[1]["mixer"] == "mlp"
    assert run.model[1]["mixer_at"] == [1, 2]
    assert run.recipe.loss == "l1"


def test_all_problems_are_told_together(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """\
name: two words
data: {source: digit}
model:
  type: mixer
  patch_sise: 2
  hidden_channels: 9
  latent_dim: 3
trainning: {epochs: 1}
training:
  epochs: 1
  learning_rate: fast
""",
    )
    with pytest.raises(ExperimentError) as caught:
        read_experiment(path, ["training.seed=-1"])
    assert sorted(caught.value.problems) == sorted(
        [
            f"{path}:8: trainning: unknown key 'trainning'; did you mean 'training'?",
            f"{path}:1: name: must be made of letters, digits, '.', '_' and '-', not the text 'two words'",
            f"{path}:2: data.source: unknown data source 'digit'; did you mean 'digits'?",
            f"{path}:5: model.patch_sise: unknown key 'patch_sise'; did you mean 'patch_size'?",
            f"{path}:6: model.hidden_channels: must be a list, not 9; did you mean [9]?",
            f"{path}:3: model.patch_size: is missing",
            f"{path}:11: training.learning_rate: must be a number, not the text 'fast'",
            "command line, 'training.seed=-1': training.seed: must be at least 0, not -1",
        ]
    )


def test_numbers_that_clash_are_found_beside_the_rest(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError) as caught:
        read_experiment(write(tmp_path), ["model.patch_size=3", "training.loss=mean"])
    assert caught.value.problems == [
        "command line, 'training.loss=mean': training.loss: unknown name 'mean'; known: huber, l1, mse",
        "command line, 'model.patch_size=3': model.patch_size: patches of 3 x 3 pixels do not tile an image "
        "of 8 x 8; these sizes do: 1, 2, 4, 8",
    ]


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("model.image_shape=[1, 8, 8]", "model.image_shape: comes from the data; remove it here"),
        ("model.type.x=3", "model.type is not a map, it has no key 'x'"),
        ("model.type=", "model.type: must be a text, not nothing"),
        ("model={}", "model: is missing the key 'type'"),
        ("data=digits", "data: must be a map of keys and values, not the text 'digits'"),
        ("data={source: digits, size: 3}", "data.size: unknown key 'size'"),
        ("matrix.seed=[0, 1]", "matrix.seed: is never used; write ${seed} where it belongs"),
        ("training.seed=${seed}", "training.seed: '${seed}' refers to nothing; this file has no matrix"),
        ("extends=3", "extends: unknown key"),
        ("name=../../x", "name: "),
        ("training.epochs=.inf", "training.epochs: must be a whole number"),
        ("training.learning_rate=.nan", "training.learning_rate: must be a finite number"),
    ],
)
def test_clear_errors(tmp_path: Path, override: str, sentence: str) -> None:
    with pytest.raises(ExperimentError) as caught:
        read_experiment(write(tmp_path), [override])
    assert sentence in str(caught.value)
    assert "command line" in str(caught.value)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100)
@given(st.data())
def test_broken_files_give_clear_errors(tmp_path: Path, data: st.DataObject) -> None:
    lines = SOUND.splitlines()
    for _ in range(data.draw(st.integers(1, 3))):
        i = data.draw(st.integers(0, len(lines) - 1))
        j = data.draw(st.integers(0, len(lines[i])))
        noise = data.draw(st.text(alphabet=" :-[]{}&*!|>'\"#%@`,0123456789abcné\n\t", max_size=4))
        lines[i] = lines[i][:j] + noise + lines[i][j + data.draw(st.integers(0, 3)) :]
    path = tmp_path / "x.yml"
    path.write_text("\n".join(lines), encoding="utf-8")
    try:
        read_experiment(path)
    except ExperimentError as error:
        assert error.problems
        assert all(str(path) in problem for problem in error.problems)


def test_images_are_counted_once_for_all_runs_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of photos is hashed to count them, and progress asks several times a second."""
    counted = []

    def count(source: PackedSource) -> int:
        counted.append(source)
        return 90

    monkeypatch.setattr(PackedSource, "training_images", property(count))
    text = SOUND.replace("{source: digits}", "{source: folder, path: ., crop_size: 8}")
    text = text.replace(
        "{epochs: 1}", '{epochs: 2, batch_size: 9, seed: "${seed}"}\nmatrix: {seed: [0, 1, 2]}'
    )
    runs = read_experiment(write(tmp_path, text)).runs
    assert not counted
    assert [run.total_steps for run in (*runs, *runs)] == [20] * 6
    assert len(counted) == 1


OF_BEFORE = {
    "mnist/kernel-sizes": "8cf340291a",
    "mnist/cnn-baseline": "c918637627",
    "mnist/linear-mixing": "bd332dddee",
    "photos/pixel-unshuffle": "5dd1f6bbfa",
    "digits/demo": "cb8ad105fa",
}
"""The digest of the first run of shipped files, before models had `refine` and `residual_scale`."""


@pytest.mark.parametrize("name", OF_BEFORE)
def test_keys_that_came_later_leave_digests_as_they_were(name: str) -> None:
    run = read_experiment(FIRST.parents[1] / f"{name}.yml").runs[0]
    assert run.digest == OF_BEFORE[name]
    assert run.resolved()["model"]["refine"] is None


def test_what_a_part_and_a_refinement_state_counts(tmp_path: Path) -> None:
    plain = read_experiment(write(tmp_path)).runs[0]
    digests = {plain.digest}
    for change in ("refine={steps: 1}", "refine={steps: 2}", "residual_scale=1", "mixer=mlp"):
        digests.add(read_experiment(write(tmp_path), [f"model.{change}"]).runs[0].digest)
    for part in ("{name: token_mlp}", "{name: token_mlp, hidden: 3}", "token_mlp"):  # two are equal
        digests.add(read_experiment(write(tmp_path), [f"model.mixer={part}"]).runs[0].digest)
    assert len(digests) == 7
    assert read_experiment(write(tmp_path), ["model.refine=null"]).runs[0].digest == plain.digest
