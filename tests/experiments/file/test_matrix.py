"""The matrix: combinations, references, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mixcoder.errors import ExperimentError
from mixcoder.experiments.file.matrix import expand, label, slug, substitute
from mixcoder.experiments.file.spec import read_experiment
from mixcoder.experiments.file.yaml_file import Document
from tests.pace import at_most

BASE = """\
name: mine
data: {source: digits}
model:
  type: mixer
  patch_size: 2
  hidden_channels: [9, 4]
  latent_dim: 3
  mixer_at: [1]
  mixer: ${mixer}
  kernel_size: ${ks}
training: {epochs: 1, seed: "${seed}"}
"""


def document(**matrix: Any) -> Document:
    return Document("x.yml", {"matrix": matrix})


def write(tmp_path: Path, matrix: str, base: str = BASE) -> Path:
    path = tmp_path / "x.yml"
    path.write_text(base + matrix)
    return path


def test_every_combination_in_the_order_of_the_file() -> None:
    assert expand(document(a=[1, 2], b=["x", "y"])) == [
        {"a": 1, "b": "x"},
        {"a": 1, "b": "y"},
        {"a": 2, "b": "x"},
        {"a": 2, "b": "y"},
    ]
    assert expand(Document("x.yml", {})) == [{}]


def test_include_and_exclude() -> None:
    combinations = expand(
        document(
            a=[1, 2, 3], b=[True, False], exclude=[{"a": 1}, {"a": 2, "b": True}], include=[{"a": 9, "b": 1}]
        )
    )
    assert combinations == [{"a": 2, "b": False}, {"a": 3, "b": True}, {"a": 3, "b": False}, {"a": 9, "b": 1}]


def test_paired_values_are_excluded_by_what_is_named() -> None:
    sizes = [{"patch": 7, "hidden": [64]}, {"patch": 4, "hidden": [32]}]
    combinations = expand(document(size=sizes, seed=[0, 1], exclude=[{"size": {"patch": 7}, "seed": 1}]))
    assert [(it["size"]["patch"], it["seed"]) for it in combinations] == [(7, 0), (4, 0), (4, 1)]


def test_references_keep_their_types() -> None:
    values = {"a": [1, 2.5], "b": None, "c": {"d": {"e": True}, "f": "text"}, "n": 3}
    body = {
        "w": "${a}",
        "x": ["${b}", "${ c.d.e }"],
        "y": {"z": "${c}"},
        "t": "ch=${n}|down${n}|${c.f}",
        "u": 7,
    }
    replaced = substitute(Document("x.yml", body), values).data
    assert replaced == {
        "w": [1, 2.5],
        "x": [None, True],
        "y": {"z": {"d": {"e": True}, "f": "text"}},
        "t": "ch=3|down3|text",
        "u": 7,
    }
    replaced["w"].append(3)
    assert values["a"] == [1, 2.5]


def test_labels_and_slugs() -> None:
    values = {"mixer": "cnn", "at": [2, 3], "on": True, "s": {"x": 1, "y": "a/b ../c"}}
    assert label(values) == "mixer=cnn, at=2,3, on=true, s=1+a/b ../c"
    assert slug(values) == "mixer-cnn_at-2,3_on-true_s-1+a-b-..-c"
    assert len(slug({"script": "ch=32|" * 90})) <= 80


def test_a_file_with_a_matrix_states_its_runs(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "matrix:\n  mixer: [cnn, cnn2df]\n  ks: [1, 3]\n  seed: [0, 1]\n  exclude: [{mixer: cnn2df, ks: 1}]\n",
    )
    runs = read_experiment(path).runs
    assert [(run.values["mixer"], run.values["ks"], run.values["seed"]) for run in runs] == [
        ("cnn", 1, 0), ("cnn", 1, 1), ("cnn", 3, 0), ("cnn", 3, 1), ("cnn2df", 3, 0), ("cnn2df", 3, 1),
    ]  # fmt: skip
    assert [run.model[1]["kernel_size"] for run in runs] == [1, 1, 3, 3, 3, 3]
    assert [run.recipe.seed for run in runs] == [0, 1, 0, 1, 0, 1]
    assert len({run.digest for run in runs}) == 6
    assert runs[0].directory_name == f"mixer-cnn_ks-1_seed-0-{runs[0].digest}"
    assert len(read_experiment(path, ["matrix.seed=[5]", "matrix.ks=[3]", "matrix.exclude=[]"]).runs) == 2


def test_a_run_of_a_matrix_is_the_run_stated_by_itself(tmp_path: Path) -> None:
    path = write(tmp_path, "matrix: {mixer: [cnn, mlp], ks: [3], seed: [1]}\n")
    alone = write(
        tmp_path, "", BASE.replace("${mixer}", "mlp").replace("${ks}", "3").replace('"${seed}"', "1")
    )
    path = tmp_path / "matrix.yml"
    path.write_text(BASE + "matrix: {mixer: [cnn, mlp], ks: [3], seed: [1]}\n")
    assert read_experiment(path).runs[1].digest == read_experiment(alone).runs[0].digest


@pytest.mark.parametrize(
    ("matrix", "sentence"),
    [
        ("matrix: 3", "x.yml:12: matrix: must be a map of names and lists of values, not 3"),
        ("matrix: {}", "x.yml:12: matrix: has no axis; add one"),
        ("matrix:\n  mixer: [cnn]\n  ks: 3\n  seed: [0]", "x.yml:14: matrix.ks: must be a list of at least one value, not 3"),
        ("matrix:\n  mixer: [cnn]\n  ks: []\n  seed: [0]", "x.yml:14: matrix.ks: must be a list of at least one value"),
        ("matrix: {mixer: [cnn], ks: [1], seed: [0], extra: [1, 2]}", "matrix.extra: is never used; write ${extra} where it belongs"),
        ("matrix: {mixer: [cnn], sk: [1], seed: [0]}", "x.yml:10: model.kernel_size: '${ks}' refers to nothing; known: mixer, seed, sk"),
        ("matrix: {mixer: [cnn], ks: [1], seed: [0], exclude: {ks: 1}}", "matrix.exclude: must be a list of maps, not a map"),
        ("matrix: {mixer: [cnn], ks: [1], seed: [0], exclude: [{sk: 1}]}", "matrix.exclude.0.sk: is no axis of this matrix"),
        ("matrix: {mixer: [cnn], ks: [1], seed: [0], exclude: [{ks: 3}]}", "matrix.exclude.0: leaves nothing out"),
        ("matrix: {mixer: [cnn], ks: [1], seed: [0], exclude: [{ks: 1}]}", "matrix.exclude: leaves out every run"),
        ("matrix: {mixer: [cnn], ks: [1], seed: [0], include: [{ks: 3}]}", "matrix.include.0: needs a value for mixer and seed too"),
        ("matrix: {mixer: [cnn], ks: [1, 1], seed: [0]}", "matrix: states the run with mixer=cnn, ks=1, seed=0 twice"),
        ("matrix: {mixer: [mlp], ks: [1, 3], seed: ['a b']}", "training.seed: must be a whole number, not the text 'a b'"),
        ("matrix: {mixer: [cnn, cnn2], ks: [1, 4], seed: [0]}", "x.yml:10: model.kernel_size: must be odd so that padding keeps the size, got 4; 3 or 5 would fit (with mixer=cnn, ks=4, seed=0)"),
        ("matrix: {mixer: [cnn, cnn2], ks: [1, 4], seed: [0]}", "x.yml:9: model.mixer: unknown mixing layer 'cnn2'; did you mean 'cnn2d'? (with mixer=cnn2, ks=1, seed=0)"),
        ("matrix: {mixer: [{a: 1}], ks: [1], seed: [0]}", "model.mixer: is missing the key 'name'"),
        ("matrix: {mixer: [{name: cnn, a: 1}], ks: [1], seed: [0]}", "model.mixer.a: unknown key; the mixing layer 'cnn' has no arguments"),
        ("matrix: {mixer: [3], ks: [1], seed: [0]}", "model.mixer: must be a name, or a map of a `name` and its arguments, not 3"),
        ("matrix: {mixer: [cnn], ks: [1], seed: [0], state: [1]}", "matrix.state: is a word that tables use; take another name"),
        ("matrix: {mixer: [cnn], ks: [1], seed: [0], 'a b': [1]}", "matrix.a b: must be a name of letters, digits and '_'"),
        (f"matrix: {{{', '.join(f'a{i}: [1]' for i in range(51))}}}", "matrix: has 51 axes, more than the 50 allowed"),
        (f"matrix: {{mixer: {list(range(100))}, ks: {list(range(100))}, exclude: [{'{ks: 3}, ' * 51}]}}", "matrix.exclude: has 51 entries, more than the 50 allowed for 10,000 runs"),
        (f"matrix: {{mixer: [cnn], ks: {list(range(200))}, seed: {list(range(200))}}}", "matrix: makes 40,000 runs, more than the 10,000 allowed"),
    ],
)  # fmt: skip
def test_clear_errors(tmp_path: Path, matrix: str, sentence: str) -> None:
    with pytest.raises(ExperimentError) as caught:
        read_experiment(write(tmp_path, matrix + "\n"))
    assert any(sentence in problem for problem in caught.value.problems), caught.value.problems


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("${" * 100_000, "x.yml:1: expands too far"),
        ("${" + " " * 200_000, "name: string should have at most 100 characters"),
        ("${mixer}" * 20_000, "x.yml:1: expands too far"),
    ],
)
def test_no_reference_takes_long_or_much(tmp_path: Path, name: str, sentence: str) -> None:
    read_experiment(write(tmp_path, "matrix: {mixer: [cnn], ks: [1], seed: [0]}\n"))  # imports what it needs
    base = BASE.replace("name: mine", f"name: '{name}'")
    path = write(tmp_path, f"matrix: {{mixer: [{'cnn' * 100}], ks: [1], seed: [0]}}\n", base)
    with pytest.raises(ExperimentError) as caught, at_most(yardsticks=10):
        read_experiment(path)
    assert any(sentence in problem for problem in caught.value.problems), caught.value.problems


class TestExtends:
    @pytest.fixture(autouse=True)
    def _base(self, tmp_path: Path) -> None:
        (tmp_path / "base.yml").write_text(
            BASE.replace("${mixer}", "cnn").replace("${ks}", "3").replace('"${seed}"', "1")
        )

    def read(self, tmp_path: Path, text: str) -> Any:
        (tmp_path / "sub").mkdir(exist_ok=True)
        (tmp_path / "sub" / "x.yml").write_text(text)
        return read_experiment(tmp_path / "sub" / "x.yml")

    def test_states_only_what_differs(self, tmp_path: Path) -> None:
        experiment = self.read(
            tmp_path, "extends: ../base.yml\nname: other\nmodel: {mixer: mlp}\ntraining: {inputs: 100}\n"
        )
        [run] = experiment.runs
        assert experiment.name == "other"
        assert run.model[1]["mixer"] == "mlp"
        assert run.model[1]["kernel_size"] == 3
        assert (run.recipe.inputs, run.recipe.epochs, run.recipe.seed) == (100, None, 1)

    def test_another_model_starts_anew(self, tmp_path: Path) -> None:
        [run] = self.read(
            tmp_path,
            "extends: ../base.yml\nmodel: {type: cnn, channels: [4], kernel_size: 3, latent_dim: 2}\n",
        ).runs
        assert run.model[0] == "cnn"

    def test_a_matrix_over_a_plain_file(self, tmp_path: Path) -> None:
        runs = self.read(
            tmp_path, "extends: ../base.yml\nmodel: {mixer: '${m}'}\nmatrix: {m: [cnn, mlp]}\n"
        ).runs
        assert [run.model[1]["mixer"] for run in runs] == ["cnn", "mlp"]

    def test_errors_name_the_file_they_are_in(self, tmp_path: Path) -> None:
        (tmp_path / "base.yml").write_text(BASE.replace("${mixer}", "cnm").replace("${ks}", "3"))
        with pytest.raises(ExperimentError, match=r"base.yml:9: model.mixer: unknown mixing layer 'cnm'"):
            self.read(tmp_path, "extends: ../base.yml\ntraining: {seed: 1}\n")

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("extends: 3\n", "x.yml:1: extends: must be the name of a file, not 3"),
            ("name: a\nextends: none.yml\n", "x.yml:2: extends: there is no file"),
            ("extends: x.yml\n", "extends: 'x.yml' extends this file in turn"),
        ],
    )
    def test_clear_errors(self, tmp_path: Path, text: str, sentence: str) -> None:
        with pytest.raises(ExperimentError, match=sentence):
            self.read(tmp_path, text)
