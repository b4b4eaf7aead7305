"""Runs under torchrun, in real processes: equal to one process, ended together, resumed to the byte."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from subprocess import PIPE, Popen
from typing import Any
from unittest.mock import Mock

import pytest
import torch

import mixcoder
from mixcoder.cli.place import RunPlace, check_under_torchrun
from mixcoder.cli.torchrun import _check_versions
from mixcoder.data.split import ImageData, ImageSplit
from mixcoder.errors import ArgumentError, DataError, PeerEndedError, RunLockedError, TrainingError
from mixcoder.experiments.file.spec import read_experiment
from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.experiments.runs.training_run import train_run
from mixcoder.models import create_model
from mixcoder.registry.plugins import load_plugin
from mixcoder.training.evaluation import validation_loss
from mixcoder.training.process_group import ProcessGroup, _local_device
from mixcoder.training.ranks import ALONE, Ranks
from tests.conftest import needs_compiler, slow
from tests.documents import read_document
from tests.faults.victims import PHOTOS, PLUGIN, make_photos

SIGNALS = Path(__file__).with_name("sudden_signals.py")
PEER_ENDED = (
    "error: another process of this run has ended or does not answer; torchrun's restart, or the same "
    "command, goes on from the last checkpoint ("
)
TIMEOUT = 120
"""Seconds, after which a launch that should take five has failed."""

MIXER = "{type: mixer, patch_size: 4, hidden_channels: [9], latent_dim: 8, mixer_at: [1], mixer: cnnf}"
DROPPING = "{type: dropping, latent_dim: 8}"
SHORT = "steps: 40, validations: 8, learning_rate: 0.01"
LONG = "steps: 420, validations: 3, learning_rate: 0.003, compile: off"
HOW = "compile: '${how.compile}', optimizer: '${how.optimizer}', ema: 0.9, clip_norm: 0.05"
NATIVE_AND_EAGER = (
    "{how: [{name: native, compile: 'on', optimizer: adamw}, {name: eager, compile: 'off', optimizer: muon}]}"
)
MIDDLE = 211
"""Of two steps a chunk, so that a chunk has a middle; step 211 is in one."""


@dataclass(frozen=True)
class Launch:
    """What a launch of torchrun has left.

    Attributes:
        status: of torchrun.
        out: stdout of each rank, of all attempts.
        err: stderr of each rank, of all attempts.
        codes: exit statuses of the ranks that failed, as torchrun lists them.
    """

    status: int
    out: list[str]
    err: list[str]
    codes: set[int]


def write_experiment(
    folder: Path, training: str, model: str = MIXER, data: str = "{source: digits}", matrix: str = ""
) -> Path:
    path = folder / "x.yml"
    text = f"name: x\ndata: {data}\nmodel: {model}\ntraining: {{batch_size: 64, {training}}}\n"
    path.write_text(text + (f"matrix: {matrix}\n" if matrix else ""))
    return path


def launch(
    path: Path, *arguments: str, ranks: int = 2, runs: str = "runs", restarts: int = 0, sudden: str = ""
) -> Launch:
    """Runs an experiment under torchrun; in its first attempt, with a signal as `SIGNALS` takes it."""
    logs = Path(tempfile.mkdtemp(prefix="logs", dir=path.parent))
    options = ["--standalone", f"--nproc-per-node={ranks}", f"--max-restarts={restarts}"]
    options += ["--redirects=3", f"--log-dir={logs}"]
    with torchrun(options, path, *arguments, "--runs", str(path.parent / runs), sudden=sudden) as process:
        _, said = process.communicate(timeout=TIMEOUT)
    codes = {int(code) for code in re.findall(r"^  exitcode +: (-?\d+) ", said, re.M)}
    out, err = ([_logged(logs, rank, name) for rank in range(ranks)] for name in ("stdout", "stderr"))
    return Launch(process.returncode, out, err, codes)


@contextmanager
def torchrun(options: list[str], path: Path, *arguments: str, sudden: str = "") -> Iterator[Popen[str]]:
    """Starts torchrun; at the end, no process of it is left.

    Its ranks are listed in a folder `ranks` beside the experiment file.
    """
    listed = path.parent / "ranks"
    listed.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "torch.distributed.run", *options, "-m", "mixcoder"]
    command += ["--plugin", str(PLUGIN), "--plugin", str(SIGNALS), "run", str(path), *arguments]
    environment = os.environ | {"RANKS_FOLDER": str(listed)} | ({"SUDDEN_SIGNAL": sudden} if sudden else {})
    process = Popen(command, stdout=PIPE, stderr=PIPE, text=True, start_new_session=True, env=environment)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        for rank in running(listed):  # each leads a session of its own, and may hold the pipes
            os.kill(rank, signal.SIGKILL)
        process.communicate()


def running(listed: Path) -> list[int]:
    """The ranks in a list whose processes have not ended."""
    found = []
    for path in listed.iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            is_rank = b"mixcoder" in Path(f"/proc/{path.name}/cmdline").read_bytes()  # none of a dead one
            found += [int(path.name)] if is_rank else []
    return found


def _logged(logs: Path, rank: int, name: str) -> str:
    return "".join(path.read_text() for path in sorted(logs.glob(f"*/attempt_*/{rank}/{name}.log")))


def train_alone(path: Path, *overrides: str) -> list[RunDirectory]:
    """Trains all runs of an experiment in this process."""
    load_plugin(str(PLUGIN))
    runs = read_experiment(path, overrides).runs
    return [train_run(run, path.parent / "alone", lambda loop, progress: None) for run in runs]


def directories(path: Path, runs: str = "runs") -> list[RunDirectory]:
    load_plugin(str(PLUGIN))
    return [RunDirectory.of(run, path.parent / runs) for run in read_experiment(path).runs]


def assert_equal(found: RunDirectory, expected: RunDirectory) -> None:
    """Every loss of every row, and every measure of the result, is equal within rounding: 1e-6 relative."""
    rows, expected_rows = found.read_metrics(), expected.read_metrics()
    assert len(rows) == len(expected_rows) > 10
    for row, expected_row in zip(rows, expected_rows, strict=True):
        assert row == pytest.approx(expected_row, rel=3e-6)  # gemms of half a batch round otherwise
    result, expected_result = found.read_result() or {}, expected.read_result() or {}
    keys = ["validation_loss", "best_validation_loss", "psnr", "ssim"]
    assert [result[key] for key in keys] == pytest.approx([expected_result[key] for key in keys], rel=1e-5)


def contents(directory: RunDirectory) -> dict[str, bytes]:
    names = ("model.safetensors", "metrics.jsonl", "checkpoint/best.safetensors")
    return {name: (directory.path / name).read_bytes() for name in names}


@needs_compiler
def test_two_ranks_train_as_one_process(tmp_path: Path) -> None:
    """Also that the first alone prints, and that a matrix trains one run after the other."""
    path = write_experiment(tmp_path, f"{SHORT}, {HOW}", matrix=NATIVE_AND_EAGER)
    ended = launch(path)
    assert ended.status == 0, ended.err
    for found, expected in zip(directories(path), train_alone(path), strict=True):
        assert_equal(found, expected)
    first, other = ended.err
    assert "native steps" in first
    assert "eager steps" in first
    assert "running: how=eager" in first
    assert "0.0" in ended.out[0]
    assert (other, ended.out[1]) == ("", "")
    assert (directories(path)[0].read_result() or {})["hardware"]["ranks"] == 2


@slow
@needs_compiler
def test_a_refined_network(tmp_path: Path) -> None:
    model = (
        "{type: stack, patch_size: 4, latent_dim: 4, code_channels: 4, encoder: [{channels: 8}], "
        "decoder: [{channels: 8}, {mixer: kronecker}], refine: {steps: 2}}"
    )
    path = write_experiment(tmp_path, f"{SHORT}, optimizer: muon, compile: 'on'", model)
    ended = launch(path)
    assert ended.status == 0, ended.err
    [found], [expected] = directories(path), train_alone(path)
    assert_equal(found, expected)
    assert "native steps" in ended.err[0]


@slow
@needs_compiler
def test_shards_of_unequal_size_count_by_their_images(tmp_path: Path) -> None:
    path = write_experiment(tmp_path, f"{SHORT}, {HOW}", matrix=NATIVE_AND_EAGER)
    ended = launch(path, ranks=3)  # 22, 21 and 21 images of each batch
    assert ended.status == 0, ended.err
    for found, expected in zip(directories(path), train_alone(path), strict=True):
        assert_equal(found, expected)


def launch_on_two_machines(first: Path, second: Path, *arguments: str) -> list[tuple[int, str, str]]:
    """Runs an experiment under two launches of torchrun; their statuses, stdout and stderr.

    Each writes to `runs` beside its file; the second is given the arguments.
    """
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with ExitStack() as started:
        processes = []
        for number, (path, own) in enumerate([(first, ()), (second, arguments)]):
            options = ["--nnodes=2", f"--node-rank={number}"]
            options += ["--master-addr=127.0.0.1", f"--master-port={port}"]
            runs = str(path.parent / "runs")
            processes.append(started.enter_context(torchrun(options, path, *own, "--runs", runs)))
        said = [process.communicate(timeout=TIMEOUT) for process in processes]
        return [(process.returncode, out, err) for process, (out, err) in zip(processes, said, strict=True)]


def write_two_experiments(folder: Path, *, are_photos_equal: bool) -> tuple[Path, Path]:
    """One experiment on photos in two folders, as on two machines."""
    paths = []
    for number in (0, 1):
        place = folder / f"machine-{number}"
        place.mkdir()
        make_photos(place / "photos")
        model = "{type: cnn, channels: [4, 4], kernel_size: 3, latent_dim: 8}"
        paths.append(write_experiment(place, f"{SHORT}, compile: off", model, PHOTOS))
    if not are_photos_equal:
        sorted((folder / "machine-1" / "photos").iterdir())[0].unlink()
    return paths[0], paths[1]


@slow
def test_two_machines_train_as_one_process(tmp_path: Path) -> None:
    """Each has a torchrun and images of its own, with the same crops; the first has the results."""
    first, second = write_two_experiments(tmp_path, are_photos_equal=True)
    (status, out, err), (other_status, other_out, _) = launch_on_two_machines(first, second)
    assert (status, other_status) == (0, 0), err
    found, expected = directories(first)[0], train_alone(first)[0]
    assert_equal(found, expected)
    assert (found.read_result() or {})["data_hash"] == (expected.read_result() or {})["data_hash"]
    assert not (second.parent / "runs").exists()
    assert "cnn-folder" in out
    assert other_out == ""


@slow
@pytest.mark.parametrize("is_other", ["runs", "images"])
def test_machines_that_would_train_something_else_are_refused(tmp_path: Path, is_other: str) -> None:
    first, second = write_two_experiments(tmp_path, are_photos_equal=is_other == "runs")
    overrides = ["training.seed=1"] if is_other == "runs" else []
    (status, _, err), (other_status, _, other_err) = launch_on_two_machines(first, second, *overrides)
    assert status != 0
    assert other_status != 0
    assert "error: " not in err
    message = {
        "runs": f"error: {second}: states other runs here than where the first process runs\n",
        "images": "error: folder: the images of this process are not those of the first one\n",
    }[is_other]
    assert other_err.count("error: ") == 1
    assert message in other_err
    assert not directories(first)[0].is_done()
    assert directories(first)[0].read_failure() is None


of_calm = pytest.mark.xdist_group("calm ranks")
"""One worker takes these, and trains what they compare with once."""


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment with dropout that three ranks have trained, with shards of 22, 21 and 21 images."""
    path = write_experiment(tmp_path_factory.mktemp("calm"), LONG, DROPPING)
    ended = launch(path, ranks=3, runs="calm")
    assert ended.status == 0, ended.err
    return path


@slow
@of_calm
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_and_a_restart_change_no_byte(calm: Path, rank: int) -> None:
    runs = f"killed-{rank}"
    ended = launch(calm, ranks=3, runs=runs, restarts=1, sudden=f"SIGKILL self {rank} {MIDDLE}")
    assert ended.status == 0, ended.err
    assert [said.count(PEER_ENDED) for said in ended.err] == [int(i != rank) for i in range(3)]
    resumed = [int(step) for said in ended.err for step in re.findall(r"^from batch (\d+)$", said, re.M)]
    assert len(resumed) == 3
    assert len(set(resumed)) == 1
    assert 0 < resumed[0] < MIDDLE
    assert contents(directories(calm, runs)[0]) == contents(directories(calm, "calm")[0])


@slow
@of_calm
def test_ctrl_c_and_the_same_command_change_no_byte(calm: Path) -> None:
    ended = launch(calm, ranks=3, runs="interrupted", sudden=f"SIGINT torchrun 0 {MIDDLE}")
    assert ended.status != 0
    first, *others = ended.err
    assert re.search(
        r"^error: interrupted after [\d,]+ inputs; the same command goes on from there$", first, re.M
    )
    assert others == ["", ""]
    directory = directories(calm, "interrupted")[0]
    assert directory.checkpoint.exists()
    assert not directory.is_done()
    assert launch(calm, ranks=3, runs="interrupted").status == 0
    assert contents(directory) == contents(directories(calm, "calm")[0])


@slow
def test_a_rank_that_dies_ends_the_others_with_a_sentence(tmp_path: Path) -> None:
    path = write_experiment(tmp_path, LONG)
    ended = launch(path, sudden=f"SIGKILL self 1 {MIDDLE}")
    assert ended.status != 0
    assert ended.codes == {1, -signal.SIGKILL}
    assert said_last(ended.err[0]).startswith(PEER_ENDED)
    assert f"\n{PEER_ENDED}" in read_document("docs/one-big-run.md")
    assert ended.err[1] == ""
    [directory] = directories(path)
    assert directory.read_failure() is None
    assert not directory.is_done()


def said_last(err: str) -> str:
    """The last line of the stderr of a rank, which has one error alone."""
    assert err.count("error: ") == 1
    return err.splitlines()[-1]


@slow
def test_ctrl_c_before_the_first_step_is_said_once(tmp_path: Path) -> None:
    path = write_experiment(tmp_path, LONG)
    ended = launch(path, sudden="SIGINT torchrun 0 0")
    assert ended.status != 0
    assert said_last(ended.err[0]) == "error: interrupted; the same command goes on from there"
    assert ended.err[1] == ""
    assert directories(path)[0].read_failure() is None


@slow
def test_a_process_that_never_joins_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LONGEST_JOIN", "2")
    path = write_experiment(tmp_path, LONG)
    with torchrun(["--standalone", "--nproc-per-node=2"], path, sudden="SIGSTOP self 1 -1") as process:
        assert process.stderr is not None
        said = next((line for line in process.stderr if "error: " in line), "")
    assert said.startswith(PEER_ENDED)
    assert "timeout after 2000ms" in said


@slow
def test_ranks_end_with_their_torchrun(tmp_path: Path) -> None:
    path = write_experiment(tmp_path, LONG.replace("420", "1_000_000"))
    runs = str(tmp_path / "runs")
    options = ["--standalone", "--nproc-per-node=2", "--redirects=3", f"--log-dir={tmp_path}"]
    sudden = f"SIGKILL torchrun 0 {MIDDLE}"
    with torchrun(options, path, "--runs", runs, sudden=sudden) as process:
        assert process.wait(TIMEOUT) == -signal.SIGKILL
        assert len(list((tmp_path / "ranks").iterdir())) == 2
        deadline = time.monotonic() + TIMEOUT
        while running(tmp_path / "ranks") and time.monotonic() < deadline:
            time.sleep(0.2)
        assert running(tmp_path / "ranks") == []
    assert not directories(path)[0].is_done()


@slow
def test_a_run_that_another_process_trains_is_left_to_it(tmp_path: Path) -> None:
    path = write_experiment(tmp_path, f"{SHORT}, compile: off")
    [directory] = directories(path)
    with directory.locked():
        ended = launch(path)
    assert ended.err == [f"error: {directory.path}: another process is training this run\n", ""]
    assert RunLockedError.exit_status in ended.codes


@slow
def test_a_damaged_run_directory_is_one_sentence(tmp_path: Path) -> None:
    path = write_experiment(tmp_path, f"{SHORT}, compile: off")
    [directory] = directories(path)
    directory.checkpoint.parent.mkdir(parents=True)
    directory.checkpoint.write_bytes(b"no such thing")
    ended = launch(path)
    assert re.fullmatch(rf"error: {directory.checkpoint}: [^\n]+\n", ended.err[0])
    assert ended.err[1] == ""
    assert 2 in ended.codes


@slow
def test_a_run_that_diverges_does_not_keep_the_next_from_training(tmp_path: Path) -> None:
    training = "steps: 40, validations: 8, compile: off, optimizer: sgd, learning_rate: '${rate}'"
    path = write_experiment(tmp_path, training, matrix="{rate: [1.0e+20, 0.01]}")
    ended = launch(path)
    first, other = ended.err
    assert "error: 1 of 2 runs failed:\n  rate=1e+20: the " in first
    assert other == ""
    bad, good = directories(path)
    assert "became" in (bad.read_failure() or {})["reason"]
    assert_equal(good, train_alone(path, "matrix.rate=[0.01]")[0])
    before = {file: file.stat().st_mtime_ns for file in good.path.rglob("*")}
    again = launch(path)  # what is done is skipped
    assert "running: rate=1e+20" in again.err[0]
    assert "running: rate=0.01" not in again.err[0]
    assert (again.out, again.err[1]) == (ended.out, "")
    assert {file: file.stat().st_mtime_ns for file in good.path.rglob("*")} == before


@slow
def test_what_cannot_be_done_is_said_once(tmp_path: Path) -> None:
    ended = launch(write_experiment(tmp_path, SHORT), "training.batch_size=1")
    said = "error: training.batch_size: 1 images are too few for 2 processes, each needs one or more\n"
    assert "".join(ended.err) == said
    assert 2 in ended.codes


@pytest.mark.parametrize(
    ("option", "choice"),
    [
        ("-j", {"jobs": 2}),
        ("--cluster", {"cluster": "auto"}),
        ("--cpus", {"cpus": 1.0}),
        ("--gpus", {"gpus": 1.0}),
        ("--launcher", {"launcher": "srun -n1"}),
    ],
)
def test_options_for_other_places_are_refused(option: str, choice: dict[str, Any]) -> None:
    place = RunPlace(jobs=None, device="auto", cluster=None, cpus=None, gpus=None, launcher=None)
    check_under_torchrun(place)
    check_under_torchrun(place._replace(jobs=1))
    with pytest.raises(ArgumentError, match=f"^{option}: does not go with torchrun, "):
        check_under_torchrun(place._replace(**choice))


class OtherRank(Ranks):
    """Any rank but the first, whose texts are others."""

    index = 1

    def is_same(self, text: str) -> bool:
        return False


def test_other_versions_are_refused() -> None:
    versions = re.escape(f"Mixcoder {mixcoder.__version__} and PyTorch {torch.__version__.split('+')[0]}")
    with pytest.raises(TrainingError, match=f"^here are {versions}, the first process has others; "):
        _check_versions(OtherRank())
    _check_versions(ALONE)


@slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("compile", ["off", "on"])
def test_one_rank_on_a_gpu_trains_as_one_process(tmp_path: Path, compile: str) -> None:
    """Gradients go through NCCL."""
    path = write_experiment(tmp_path, f"{SHORT}, precision: float32, compile: {compile}")
    [alone] = train_alone(path)
    ended = launch(path, ranks=1)
    assert ended.status == 0, ended.err
    assert_equal(directories(path)[0], alone)
    for directory in (*directories(path), *directories(path, "alone")):
        hardware = (directory.read_result() or {})["hardware"]
        assert hardware["device"] == torch.cuda.get_device_name()


def first_of_two(monkeypatch: pytest.MonkeyPatch, failure: str) -> ProcessGroup:
    """The first of two ranks, whose sums fail."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(failure)

    monkeypatch.setattr("torch.distributed.all_reduce", fail)
    ranks = object.__new__(ProcessGroup)
    ranks.index, ranks.count, ranks._groups = 0, 2, dict.fromkeys(("pauses", "steps"), Mock())
    return ranks


def test_an_error_of_its_own_comes_before_the_end_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = first_of_two(monkeypatch, "[pair.cc:1] Connection closed by \x1bpeer\nmore")
    with pytest.raises(DataError, match="^mine$"), ranks.together():
        raise DataError("mine")
    with pytest.raises(PeerEndedError) as caught, ranks.together():
        pass
    said = f"error: {caught.value}"
    assert said.startswith(f"{PEER_ENDED}[pair.cc:1] Connection closed by ")
    assert said.endswith("peer)")
    assert "\x1b" not in said


def test_memory_that_is_missing_is_not_the_end_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    ranks = first_of_two(monkeypatch, "DefaultCPUAllocator: can't allocate memory")
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        ranks.total(1.0)


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_ranks_do_not_share_a_gpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(
        ArgumentError, match="^device: 2 processes need as many GPUs, here are 1; 'cpu' needs none$"
    ):
        _local_device(name)
    assert _local_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(("name", "gpus"), [("cuda:0", 1), ("mps", 0)])
def test_ranks_choose_no_device_of_their_own(name: str, gpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(ArgumentError, match="^device: under torchrun, must be auto, cpu or cuda: "):
        _local_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there are GPUs")
def test_ranks_without_gpus_compute_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert _local_device("auto") == torch.device("cpu")
    with pytest.raises(ArgumentError, match="^device: "):
        _local_device("cuda")


def test_ranks_may_be_more_than_validation_images(tiny_data: ImageData) -> None:
    two = ImageSplit(tiny_data.validation.images[:2])
    model = create_model("cnn", image_shape=tiny_data.image_shape, channels=[2], kernel_size=3, latent_dim=2)
    parts = [validation_loss(model, two, "mse", ranks=rank_of(index, 3)) for index in range(3)]
    assert parts[2] == 0
    assert sum(parts) == pytest.approx(validation_loss(model, two, "mse"), rel=1e-6)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("length", [1, 7, 64])
def test_shards_are_all_of_a_batch_in_order(count: int, length: int) -> None:
    images = torch.arange(length)
    shards = [images[rank_of(index, count).shard(length)] for index in range(count)]
    assert torch.equal(torch.cat(shards), images)
    sizes = [len(shard) for shard in shards]
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes) - min(sizes) <= 1


def rank_of(index: int, count: int) -> Ranks:
    ranks = Ranks()
    ranks.index, ranks.count = index, count
    return ranks


def test_one_process_loads_nothing_of_several() -> None:
    program = "import sys, mixcoder.cli.train; sys.exit('mixcoder.training.process_group' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
