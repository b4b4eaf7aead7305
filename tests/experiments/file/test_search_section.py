"""The section `search`: what it may state, and a sentence for all that it may not."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from mixcoder.errors import ExperimentError, RunDirectoryError
from mixcoder.experiments.file.search_section import Search
from mixcoder.experiments.file.spaces import NumberSpace, read_space
from mixcoder.experiments.file.spec import read_experiment
from mixcoder.experiments.runs.run_directory import RunDirectory
from tests.conftest import Cli
from tests.experiments.searches.inline import SEARCH


def read(tmp_path: Path, text: str = SEARCH, *overrides: str) -> Search:
    path = tmp_path / "x.yml"
    path.write_text(text)
    search = read_experiment(path, overrides).search
    assert search
    return search


def test_what_it_states(tmp_path: Path) -> None:
    search = read(tmp_path)
    assert (search.section.trials, search.section.inputs, search.section.keep) == (6, [640, 1280], 0.34)
    assert search.spaces["rate"] == NumberSpace(0.001, 0.3, True, None, False)
    assert search.spaces["channels"] == NumberSpace(4, 12, False, 4, True)
    trial = search.trial_document({"rate": 0.01, "channels": 8, "mixer": "cnn"}, 1).data
    assert trial["model"]["hidden_channels"] == [8]
    assert (trial["training"]["learning_rate"], trial["training"]["inputs"]) == (0.01, 1280)
    assert trial["data"]["search_holdout"] == 300
    final = search.finalist_document({"rate": 0.01, "channels": 8, "mixer": "cnn"}, 4).data
    assert (final["training"]["inputs"], final["training"]["seed"]) == (2560, 4)
    assert final["data"]["search_holdout"] is None


def test_finalists_may_be_trained_for_epochs(tmp_path: Path) -> None:
    search = read(tmp_path, SEARCH.replace("inputs: 2_560", "epochs: 2"))
    trial = search.trial_document({"rate": 0.01, "channels": 8, "mixer": "cnn"}, 0).data["training"]
    assert (trial["inputs"], trial.get("epochs")) == (640, None)


def test_values_of_any_kind_may_be_chosen_from(tmp_path: Path) -> None:
    text = SEARCH.replace("mixer: [cnn, mlp]", "mixer: [{name: a, layer: cnn}, {name: b, layer: mlp}]")
    search = read(tmp_path, text.replace("mixer: ${mixer}", "mixer: ${mixer.layer}"))
    trial = search.trial_document({"rate": 0.01, "channels": 8, "mixer": {"name": "b", "layer": "mlp"}}, 0)
    assert trial.data["model"]["mixer"] == "mlp"


def test_it_extends_a_file(tmp_path: Path) -> None:
    (tmp_path / "base.yml").write_text(SEARCH)
    search = read(tmp_path, "extends: base.yml\nsearch: {trials: 9, values: {rate: [0.1]}}\n")
    assert (search.section.trials, search.section.finalists) == (9, 2)
    assert search.spaces["rate"] == read_space([0.1])
    assert read(tmp_path, SEARCH, "search.values.rate.high=0.2").spaces["rate"] == NumberSpace(
        0.001, 0.2, True, None, False
    )


@pytest.mark.parametrize(
    ("stated", "some"),
    [
        ({"low": 1, "high": 3}, [1, 2, 3]),
        ({"low": 8, "high": 32, "step": 8}, [8, 16, 24, 32]),
        ({"low": 0.1, "high": 0.3, "step": 0.1}, [0.1, 0.2, 0.3]),
        ({"low": 1, "high": 100, "log": True}, None),
        ({"low": 1.0, "high": 3}, None),
        (["a", None, {"b": 1}], ["a", None, {"b": 1}]),
    ],
)
def test_what_is_drawn_is_within(stated: dict[str, object], some: list[object] | None) -> None:
    space, generator = read_space(stated), np.random.default_rng(0)
    drawn = [space.draw(generator) for _ in range(300)]
    assert all(map(space.holds, drawn))
    if some is not None:
        assert {repr(value) for value in drawn} == {repr(value) for value in some}
    assert not space.holds("nothing of the kind")
    assert not space.holds(True)


WRONG = {
    "no map": ("trials: 6", "- 3", "is not valid YAML"),
    "unknown key": ("trials: 6", "trails: 6", "search.trails: unknown key 'trails'; did you mean 'trials'?"),
    "no trials": ("  trials: 6\n", "", "search.trials: is missing"),
    "no rungs": ("inputs: [640, 1_280]", "inputs: []", "search.inputs: "),
    "a rung above the finalists": ("[640, 1_280]", "[640, 3_000]", "search.inputs.1: must be at most training.inputs, 2,560, which the finalists"),
    "rungs that fall": ("[640, 1_280]", "[1_280, 640]", "search.inputs.1: must be above the rung before it, 1,280"),
    "a rung of nothing": ("[640, 1_280]", "[0, 640]", "search.inputs.0: must be from 1 to 1,000,000,000,000, not 0"),
    "a rung that is a text": ("[640, 1_280]", "[few]", "search.inputs.0: must be a whole number, not the text"),
    "keep all": ("keep: 0.34", "keep: 1", "search.keep: must be below 1, not 1"),
    "no finalists": ("finalists: 2", "finalists: 0", "search.finalists: must be above 0, not 0"),
    "a seed twice": ("[3, 4]", "[3, 3]", "search.seeds.1: states 3 a second time"),
    "a seed below": ("[3, 4]", "[-3]", "search.seeds.0: must be from 0 to "),
    "too many trials": ("trials: 6", "trials: 10_000", "search.trials: must be at most 2,000, not 10000"),
    "an unknown limit": ("keep: 0.34", "limits: {parms: 3}", "search.limits.parms: unknown key 'parms'"),
    "a limit of nothing": ("keep: 0.34", "limits: {params: 0}", "search.limits.params: must be above 0, not 0"),
    "a single value": ("[cnn, mlp]", "cnn", "search.values.mixer: must be a list, such as [cnn, mlp], or a range"),
    "no value": ("[cnn, mlp]", "[]", "search.values.mixer: must be a list of at least one value"),
    "a value twice": ("[cnn, mlp]", "[cnn, cnn]", "search.values.mixer.1: states the text 'cnn' a second time"),
    "an unknown value": ("[cnn, mlp]", "[cnn, mpl]", "unknown mixing layer 'mpl'"),
    "low above high": ("low: 0.001", "low: 0.9", "search.values.rate.high: must be above low, 0.9"),
    "no high": (", high: 0.3", "", "search.values.rate.high: is missing"),
    "a log of zero": ("low: 0.001", "low: 0", "search.values.rate.low: must be above 0 with log: true, not 0"),
    "log and step": ("log: true", "log: true, step: 0.1", "search.values.rate.step: does not go with log: true"),
    "a step with a rest": ("high: 12", "high: 13", "search.values.channels.step: must divide high - low, which is 13 - 4"),
    "a misspelt range": ("log: true", "lag: true", "search.values.rate.lag: unknown key 'lag'; did you mean 'log'?"),
    "a word of tables": ("rate:", "trial:", "search.values.trial: is a word that tables of a search use"),
    "an unused value": ("rate: {", "rat: [1]\n    rate: {", "search.values.rat: is never used; write ${rat}"),
    "no such value": ("${mixer}", "${mxer}", "model.mixer: '${mxer}' refers to nothing; did you mean 'mixer'?"),
    "a matrix too": ("search:", "matrix: {seed: [1]}\nsearch:", "matrix: does not go with search; move its lists"),
    "no holdout": (", search_holdout: 300", "", "search: needs data.search_holdout, such as search_holdout: 5_000"),
    "too large a holdout": ("300", "1_500", "data.search_holdout: must be below 1,500"),
    "other losses": ("validations: 1", "loss: '${mixer}'", "training.loss: must be the same for all trials"),
    "a seed that is tried": ("validations: 1", "seed: '${channels}'", "training.seed: must be the same for all"),
    "other durations": ("inputs: 2_560", "inputs: '${channels}'", "training.inputs: must be the same for all"),
    "other recipes": ('training: {learning_rate: "${rate}", schedule: linear, inputs: 2_560, validations: 1}', "training: ${rate}", "training: must be the same for all trials"),
    "other names": ("name: tried", "name: tried-${mixer}", "name: must be the same for all trials"),
    "other data": ("{source: digits", "{source: '${mixer}'", "data.source: must be the same for all trials"),
    "a value that does not fit": ("high: 12", "high: 0", "search.values.channels.high: must be above low, 4"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_every_mistake_is_told_with_its_line(kind: str, tmp_path: Path) -> None:
    sound, wrong, sentence = WRONG[kind]
    text = SEARCH.replace(sound, wrong)
    assert text != SEARCH
    with pytest.raises(ExperimentError) as error:
        read(tmp_path, text)
    lines = [problem for problem in error.value.problems if sentence in problem]
    assert lines, error.value
    assert re.match(rf"{re.escape(str(tmp_path))}/x\.yml:[0-9]+: ", lines[0])


def test_values_that_do_not_fit_together_are_told_with_the_values(tmp_path: Path) -> None:
    text = SEARCH.replace("channels: {low: 4", "channels: {low: 5").replace("high: 12, step: 4", "high: 6")
    with pytest.raises(
        ExperimentError, match=r"5 is not a square number.*\(with rate=0.001, channels=5, mixer=c"
    ):
        read(tmp_path, text.replace("[cnn, mlp]", "[mlp, cnn2df]"))


@pytest.mark.parametrize(
    ("values", "training", "sentence"),
    [
        ("compile: [auto, 'off']", "compile: '${compile}'", "compile: auto and off train the same"),
        ("names: [[], [tensorboard]]", "log: '${names}'", "names: none and tensorboard train the same"),
        ("clip: [0.5, 1, 1.0]", "clip_norm: '${clip}'", "clip: 1 and 1.0 train the same"),
    ],
)
def test_values_that_train_the_same_are_told(
    values: str, training: str, sentence: str, tmp_path: Path
) -> None:
    """Or two trials would be one training."""
    text = SEARCH.replace("validations: 1}", f"validations: 1, {training}}}")
    with pytest.raises(ExperimentError, match=re.escape(f"search.values.{sentence}; leave out one of them")):
        read(tmp_path, text.replace("    mixer: [cnn, mlp]", f"    mixer: [cnn, mlp]\n    {values}"))


def test_a_config_of_a_run_is_no_search(tmp_path: Path) -> None:
    (tmp_path / "config.yml").write_text(SEARCH)
    with pytest.raises(RunDirectoryError, match=r"config\.yml: states a search, not a run"):
        RunDirectory(tmp_path).read_run()


def test_the_plan_says_what_a_search_takes(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "x.yml").write_text(SEARCH)
    status, out, _ = cli("plan", "x.yml", "--format", "json")
    assert status == 0
    rows = json.loads(out)
    assert [(row["rung"], row["inputs"]) for row in rows] == [(1, 640), (2, 1280), ("final", 2560)]
    assert [row["runs"] for row in rows][::2] == [6, 4]
    assert 2 <= rows[1]["runs"] <= 6
    assert all(row["minutes"] > 0 and row["most_runs"] >= row["runs"] for row in rows)
    assert [row["done"] for row in rows] == [0, 0, 0]
    status, out, _ = cli("plan", "x.yml")
    assert "6 trials on 2 rungs" in out


def test_searches_are_planned_beside_matrices(cli: Cli, tmp_path: Path) -> None:
    """In tables of their own, which no single list of rows can hold."""
    (tmp_path / "x.yml").write_text(SEARCH)
    (tmp_path / "y.yml").write_text(
        "name: one\ndata: {source: digits}\nmodel: {type: script, script: ch=2}\ntraining: {inputs: 640}\n"
    )
    status, out, err = cli("plan", "y.yml", "x.yml")
    assert status == 0, err
    runs, _, rungs = out.partition(f"\n{read_experiment(Path('x.yml')).name}:\n")
    assert "1 runs, 0 done" in runs
    assert "6 trials on 2 rungs" in rungs
    for kind in ("csv", "json"):
        status, _, err = cli("plan", "y.yml", "x.yml", "--format", kind)
        assert (status, err) == (
            2,
            "error: file: x.yml states a search, whose plan has other columns; plan it alone\n",
        )


@pytest.mark.parametrize(
    ("trials", "note"),
    [
        (9, ""),
        (
            6,
            "rung 3 needs 9 trials, or a larger keep, for one to be sure to reach it; with 6, perhaps none does\n",
        ),
        (
            4,
            "rung 3 needs 9 trials, or a larger keep, for one to be sure to reach it; with 4, no trial can\n",
        ),
        (
            2,
            "rung 2 needs 3 trials, or a larger keep, for one to be sure to reach it; with 2, no trial can\n",
        ),
    ],
)
def test_the_plan_says_which_rung_is_out_of_reach(trials: int, note: str, cli: Cli, tmp_path: Path) -> None:
    text = SEARCH.replace("inputs: [640, 1_280]", "inputs: [640, 1_280, 2_560]")
    (tmp_path / "x.yml").write_text(text.replace("trials: 6", f"trials: {trials}"))
    status, _, err = cli("plan", "x.yml")
    assert (status, err) == (0, note)


def test_a_plan_of_what_cannot_be_trained_says_so(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "x.yml").write_text(SEARCH)
    status, _, err = cli("plan", "x.yml", "search.limits={params: 3}")
    assert (status, "none of 200 random combinations can be trained; the nearest" in err) == (2, True)
