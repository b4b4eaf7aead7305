"""A search from its first proposal to its finalists."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from mixcoder.data import ImageSplit
from mixcoder.data.sources.digits import Digits
from mixcoder.errors import ArgumentError, RunDirectoryError, RunLockedError
from mixcoder.experiments.file.search_section import read_search
from mixcoder.experiments.file.spec import Experiment
from mixcoder.experiments.file.yaml_file import read_document
from mixcoder.experiments.plans.search_plan import plan_stages
from mixcoder.experiments.results.records import read_records, records_of
from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.experiments.searches.search_runs import search_lock
from mixcoder.experiments.searches.trial_losses import read_asked
from mixcoder.experiments.searches.trials import AskedTrials, Trial
from tests.conftest import Cli, slow, slow_but
from tests.experiments.searches.inline import SEARCH, InlineWorkers, KilledError, read, search_on

pytest.importorskip("optuna")

Found = dict[str, tuple[Any, float]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "x.yml"


def found(runs: Path) -> Found:
    """By directory what was trained: the digest of its images, and the loss."""
    results = {path.parent.name: json.loads(path.read_text()) for path in runs.glob("tried/*/result.json")}
    return {name: (each["data_hash"], each["validation_loss"]) for name, each in results.items()}


def test_all_trials_are_tried_and_the_best_are_finalists(file: Path, tmp_path: Path) -> None:
    experiment, workers = read(file), InlineWorkers(tmp_path)
    states = search_on(experiment, workers)
    assert all(state.state == "done" for state in states)
    values = [state.run.values for state in states]
    assert [each["trial"] for each in values if each["rung"] == 1] == [1, 2, 3, 4, 5, 6]
    ranked = {
        rung: sorted(
            (state.directory.read_result() or {})["validation_loss"]
            for state in states
            if state.run.values["rung"] == rung
        )
        for rung in (1, 2)
    }
    assert len(ranked[2]) >= 2, "0.34 of six"
    promoted = {each["trial"] for each in values if each["rung"] == 2}
    [best, *_] = sorted(
        (state for state in states if state.run.values["rung"] == 1),
        key=lambda state: (state.directory.read_result() or {})["validation_loss"],
    )
    assert best.run.values["trial"] in promoted
    finals = [each for each in values if each["rung"] == "final"]
    assert [each["seed"] for each in finals] == [3, 3, 4, 4]
    assert len({each["trial"] for each in finals}) == 2
    assert values[-4:] == finals, "which wait for all trials"


def test_trials_are_judged_on_images_held_out_and_finalists_on_the_validation_set(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With another validation set, all trials and their choice are the same, the finalists' losses not."""
    states = search_on(read(file), InlineWorkers(tmp_path / "a"))
    assert {
        (state.run.values["rung"] == "final", state.run.data[1]["search_holdout"]) for state in states
    } == {(False, 300), (True, None)}
    load = Digits.load

    def load_others(source: Digits) -> Any:
        noise = torch.randint(0, 256, (50, 1, 8, 8), dtype=torch.uint8)
        return replace(load(source), validation=ImageSplit(noise))

    monkeypatch.setattr(Digits, "load", load_others)
    search_on(read(file), InlineWorkers(tmp_path / "b"))
    first, second = found(tmp_path / "a"), found(tmp_path / "b")
    assert first.keys() == second.keys()
    differing = {name for name in first if first[name] != second[name]}
    assert differing == {name for name in first if "rung-final" in name}


@pytest.mark.parametrize("killed_after", slow_but(1, (5, 0, 8, 11)))
def test_killed_anywhere_and_resumed_it_ends_as_an_undisturbed_one(
    killed_after: int, file: Path, tmp_path: Path
) -> None:
    calm = InlineWorkers(tmp_path / "calm")
    search_on(read(file), calm)
    with pytest.raises(KilledError):
        search_on(read(file), InlineWorkers(tmp_path / "stormy", killed_after=killed_after))
    resumed = InlineWorkers(tmp_path / "stormy")
    search_on(read(file), resumed)
    assert len(resumed.trained) == len(calm.trained) - killed_after, "nothing is trained twice"
    assert found(tmp_path / "stormy") == found(tmp_path / "calm")
    written = [(tmp_path / each / "tried/search.json").read_bytes() for each in ("calm", "stormy")]
    assert written[0] == written[1]
    again = InlineWorkers(tmp_path / "stormy")
    search_on(read(file), again)
    assert again.trained == []


@pytest.mark.parametrize("is_last_first", slow_but(1, (True, False)))
def test_side_by_side_no_trial_is_lost_or_tried_twice(
    is_last_first: bool, file: Path, tmp_path: Path
) -> None:
    workers = InlineWorkers(tmp_path, 3, killed_after=4, is_last_first=is_last_first)
    with pytest.raises(KilledError):
        search_on(read(file), workers)
    resumed = InlineWorkers(tmp_path, 3, is_last_first=is_last_first)
    search_on(read(file), resumed)
    names = [state.directory.path.name for each in (workers, resumed) for state in each.trained]
    assert len(set(names)) == len(names)
    tried = [state.run.values for each in (workers, resumed) for state in each.trained]
    assert sorted(each["trial"] for each in tried if each["rung"] == 1) == [1, 2, 3, 4, 5, 6]
    assert sum(each["rung"] == "final" for each in tried) == 4


@slow
def test_what_is_beyond_the_limits_is_never_trained(file: Path, tmp_path: Path) -> None:
    experiment = read(file, "search.limits={params: 600}")
    workers = InlineWorkers(tmp_path)
    search_on(experiment, workers)
    assert experiment.search
    params = [(state.directory.read_result() or {})["params"] for state in workers.trained]
    assert max(params) <= 600
    proposed = read_asked(experiment.search, tmp_path).proposed
    beyond = [trial for trial in proposed if not trial.is_trained]
    assert beyond
    assert all(" model params, above 600" in trial.reason for trial in beyond)
    assert len([trial for trial in proposed if trial.is_trained]) == 6


@slow
def test_limits_that_nothing_fits_are_told(file: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ArgumentError, match=r"none of [0-9]+ combinations can be trained; the nearest: .* above 9;"
    ):
        search_on(read(file, "search.limits={params: 9}"), InlineWorkers(tmp_path))


@slow
def test_a_search_ends_when_all_combinations_are_tried(file: Path, tmp_path: Path) -> None:
    values = "search.values={rate: [0.01], channels: [4, 8], mixer: [cnn, mlp]}"
    states = search_on(read(file, values), InlineWorkers(tmp_path))
    tried = [state.run.values for state in states if state.run.values["rung"] == 1]
    assert len({(each["channels"], each["mixer"]) for each in tried}) == len(tried) == 4
    assert sum(state.run.values["rung"] == "final" for state in states) == 4


@slow
def test_a_trial_that_fails_is_a_bad_one(file: Path, tmp_path: Path) -> None:
    """And the search goes on."""
    values = "search.values={rate: [0.01, 1e9], channels: [4, 8], mixer: [cnn]}"
    states = search_on(read(file, values, "training.optimizer=sgd"), InlineWorkers(tmp_path))
    failed = {state.run.values["trial"] for state in states if state.state == "failed"}
    assert len(failed) == 2
    assert not failed & {state.run.values["trial"] for state in states if state.run.values["rung"] != 1}


@slow
def test_a_longer_search_goes_on(file: Path, tmp_path: Path) -> None:
    search_on(read(file), InlineWorkers(tmp_path))
    more = InlineWorkers(tmp_path)
    states = search_on(read(file, "search.trials=8"), more)
    assert [state.run.values["trial"] for state in more.trained if state.run.values["rung"] == 1] == [7, 8]
    assert {state.run.values["trial"] for state in states} == set(range(1, 9))


def twins(file: Path) -> Experiment:
    """A search whose values are not checked: of each two trials, both train the same."""
    text = SEARCH.replace("validations: 1}", "validations: 1, compile: '${compile}'}")
    values = "rate: [0.01, 0.1]\n    channels: [4]\n    mixer: [cnn]\n    compile: [auto, 'off']\n"
    file.write_text(f"{text.partition('    rate: {')[0]}    {values}")
    return Experiment("tried", (), read_search(read_document(file)))


def test_what_another_trial_trains_is_no_trial(file: Path, tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        search_on(twins(file), InlineWorkers(tmp_path, killed_after=1))
    states = search_on(twins(file), InlineWorkers(tmp_path))
    assert [state.run.values["trial"] for state in states if state.run.values["rung"] == 1] == [1, 2]
    assert {state.run.values["rate"] for state in states} == {0.01, 0.1}
    assert [state.run.values["seed"] for state in states[-4:]] == [3, 3, 4, 4], "and the finalists follow"


def test_trials_of_an_older_version_may_train_the_same(file: Path, tmp_path: Path) -> None:
    """Then a digest may have become that of several."""
    experiment = twins(file)
    assert experiment.search
    asked = AskedTrials.read(experiment.search, tmp_path)
    for compiled in ("auto", "off"):
        asked.add(Trial({"rate": 0.01, "channels": 4, "mixer": "cnn", "compile": compiled}))
    (tmp_path / "tried").mkdir()
    asked.write()
    states = search_on(experiment, InlineWorkers(tmp_path))
    assert not any(trial.is_pending for trial in read_asked(experiment.search, tmp_path).trained)
    assert states[-1].run.values["rung"] == "final"


def test_another_search_of_the_same_name_is_refused(file: Path, tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        search_on(read(file), InlineWorkers(tmp_path, killed_after=1))
    for other in ("search.values.channels.high=16", "model.latent_dim=5", "search.inputs=[640]"):
        with pytest.raises(RunDirectoryError, match="is of another search; only trials, keep, finalists and"):
            search_on(read(file, other), InlineWorkers(tmp_path))


BROKEN = {
    "no JSON": ('"trials"', "trials", "is not readable JSON"),
    "another format": ('"format": 1', '"format": 7', "format: must be at most 1, not 7"),
    "a rung too high": ('"rung": 0', '"rung": 5', "holds a trial that the search cannot have asked for"),
    "a value from nowhere": ('"cnn"', '"transformer"', "holds a trial that the search cannot have asked for"),
    "a text for a number": ('"excess": 0.0', '"excess": "no"', "must be a number"),
}


@pytest.mark.parametrize("kind", slow_but(1, BROKEN))
def test_a_damaged_file_of_trials_is_told(kind: str, file: Path, tmp_path: Path) -> None:
    experiment = read(file)
    with pytest.raises(KilledError):
        search_on(experiment, InlineWorkers(tmp_path, killed_after=3))
    path = tmp_path / "tried/search.json"
    sound, damaged, sentence = BROKEN[kind]
    text = path.read_text()
    broken = text.replace(sound, damaged)
    assert broken != text
    path.write_text(broken)
    with pytest.raises(RunDirectoryError, match=sentence):
        search_on(experiment, InlineWorkers(tmp_path))


def test_only_one_process_runs_a_search(file: Path, tmp_path: Path) -> None:
    search = read(file).search
    assert search
    with (
        search_lock(search, tmp_path),
        pytest.raises(RunLockedError, match="another process runs this search"),
        search_lock(search, tmp_path),
    ):
        pass


@slow
def test_records_are_those_of_trials_and_then_of_finalists(file: Path, tmp_path: Path) -> None:
    experiment = read(file)
    with pytest.raises(RunDirectoryError, match="nothing has been tried yet; mixcoder run does it"):
        records_of(experiment, tmp_path)
    with pytest.raises(KilledError):
        search_on(experiment, InlineWorkers(tmp_path, killed_after=2))
    records = records_of(experiment, tmp_path)
    assert [record.state for record in records] == ["done", "done", "open"]
    search_on(experiment, InlineWorkers(tmp_path))
    records = read_records(file, [], tmp_path)
    assert {record.state for record in records} == {"done"}
    rungs = [record.values["rung"] for record in records]
    assert rungs == sorted(rungs, key=str)
    assert rungs.count("final") == 4
    assert len(read_records(tmp_path / "tried", [], tmp_path)) == len(records), "ordinary runs in a folder"
    assert experiment.search
    done = [row["done"] for row in plan_stages(experiment.search, tmp_path)]
    assert done == [6, rungs.count(2), 4]
    for record in records:
        run = record.directory.read_run()
        assert run.digest == RunDirectory.of(run, tmp_path).path.name.rpartition("-")[2]
        assert math.isfinite(record.result["validation_loss"])


COMMAND = [sys.executable, "-m", "mixcoder", "run", "x.yml", "search.trials=4", "search.seeds=[3]"]


@slow
def test_killed_by_the_system_and_started_again_it_has_the_same_winner(
    file: Path, tmp_path: Path, cli: Cli
) -> None:
    """Real processes: the sweep and its worker are killed while trials are trained, twice."""
    read(file)
    assert cli(*COMMAND[3:], "--runs", "calm")[0] == 0
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for trained in (2, 4):
        process = subprocess.Popen(
            [*COMMAND, "--runs", "stormy"], cwd=tmp_path, env=environment, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            wait_until(partial(has_begun, tmp_path / "stormy", trained))
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    status, out, err = cli(*COMMAND[3:], "--runs", "stormy", "--format", "json")
    assert (status, json.loads(out)[0]["rung"]) == (0, "final"), err
    assert found(tmp_path / "stormy") == found(tmp_path / "calm")
    files = [(tmp_path / each / "tried/search.json").read_bytes() for each in ("calm", "stormy")]
    assert files[0] == files[1]


@slow
@pytest.mark.parametrize("place", [["-j", "2"], ["--launcher", "env", "-j", "2"]])
def test_several_workers_and_a_launcher_run_it(
    place: list[str], file: Path, tmp_path: Path, cli: Cli
) -> None:
    read(file)
    status, out, err = cli(*COMMAND[3:], *place, "--format", "json")
    assert status == 0, err
    assert [row["state"] for row in json.loads(out)] == ["1 of 1 done"] * 2
    assert err.count("done: trial=") == len(found(tmp_path / "runs"))


def has_begun(runs: Path, count: int) -> bool:
    """Whether so many trainings have begun."""
    return len(list(runs.glob("tried/*/config.yml"))) >= count


def wait_until(holds: Callable[[], bool]) -> None:
    """Waits up to two minutes."""
    end = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)
