"""Files of a run on their way from a node to the run's directory: nothing is lost, doubled or too early."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.experiments.sweeps import ray_node
from mixcoder.experiments.sweeps.mirror import read_files, write_news
from mixcoder.experiments.sweeps.ray_node import News, NodeProcess, NodeRun, Order

ORDER: Order = {
    "directory": "mine/run",
    "files": {"config.yml": b"name: mine", "metrics.jsonl": b"old"},
    "plugins": {},
    "plugin_names": [],
    "arguments": [],
    "environment": {},
    "parent_variable": "PARENT",
}


class IdleRun(NodeRun):
    """A run whose process only waits; the tests write its files."""

    def _start(self, order: Order) -> subprocess.Popen[bytes]:
        (self._folder / "output").touch()
        return subprocess.Popen(["sleep", "60"])

    def write(self, name: str, content: bytes) -> None:
        """Replaces a file, as a run does."""
        path = self._directory / name
        path.parent.mkdir(exist_ok=True)
        path.with_name(".part").write_bytes(content)
        path.with_name(".part").rename(path)

    def append(self, name: str, content: bytes) -> None:
        with (self._directory / name).open("ab") as file:
            file.write(content)

    def files(self, *, with_checkpoint: bool = True) -> dict[str, tuple[int, bytes]]:
        return dict(self.news(0.0, with_checkpoint=with_checkpoint)["files"])


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files of a node."""
    folder = tmp_path / "node"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.fixture
def run(node: Path) -> Iterator[IdleRun]:
    idle = IdleRun(ORDER)
    yield idle
    idle.close()
    assert list(node.iterdir()) == []


def news(files: dict[str, tuple[int, bytes]], output: bytes = b"") -> News:
    return {"status": None, "output": output, "files": files, "folder": "/there/run"}


def test_only_what_is_new_comes(run: IdleRun) -> None:
    assert run.files() == {}
    run.append("metrics.jsonl", b"er")
    assert run.files() == {"metrics.jsonl": (3, b"er")}
    run.write("metrics.jsonl", b"anew, and longer")
    assert run.files() == {"metrics.jsonl": (0, b"anew, and longer")}
    run.write("model.json", b"1")
    run.write("model.json", b"12")
    assert run.files() == {"model.json": (0, b"12")}
    assert run.files() == {}


def test_the_checkpoint_is_read_first_and_only_when_it_is_wanted(run: IdleRun) -> None:
    run.write("checkpoint/latest.safetensors", b"l")
    run.write("checkpoint/best.safetensors", b"b")
    run.append("metrics.jsonl", b"x")
    assert list(run.files(with_checkpoint=False)) == ["metrics.jsonl"]
    assert list(run.files()) == ["checkpoint/latest.safetensors", "checkpoint/best.safetensors"]


def test_a_result_comes_with_the_end_of_its_process(run: IdleRun) -> None:
    run.write("result.json", b"{}")
    assert run.files() == {}
    run.stop()
    last = run.news(10.0, with_checkpoint=False)
    assert (last["status"], list(last["files"])) == (-15, ["result.json"])


def test_news_that_are_written_twice_change_nothing(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    (tmp_path / "metrics.jsonl").write_bytes(b"one\n")
    for _ in range(2):
        write_news(directory, news({"metrics.jsonl": (4, b"two\n"), "model.json": (0, b"{}")}))
    assert (tmp_path / "metrics.jsonl").read_bytes() == b"one\ntwo\n"
    assert (tmp_path / "model.json").read_bytes() == b"{}"


def test_a_checkpoint_is_written_after_what_it_counts_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    monkeypatch.setattr(
        "mixcoder.experiments.sweeps.mirror.write_atomically",
        lambda path, content: written.append(path.relative_to(tmp_path).as_posix()),
    )
    names = ["checkpoint/latest.safetensors", "result.json", "checkpoint/best.safetensors", "model.json"]
    write_news(RunDirectory(tmp_path), news(dict.fromkeys(names, (0, b""))))
    assert written == [
        "model.json",
        "checkpoint/best.safetensors",
        "checkpoint/latest.safetensors",
        "result.json",
    ]


def test_messages_name_the_directory_here(tmp_path: Path) -> None:
    write_news(RunDirectory(tmp_path), news({}, b"error: /there/run/metrics.jsonl: full\n"))
    assert (tmp_path / "log.txt").read_text() == f"error: {tmp_path}/metrics.jsonl: full\n"


def test_a_run_goes_on_from_its_own_files(tmp_path: Path) -> None:
    for name in ("config.yml", ".lock", "log.txt", "failure.json", ".x.part"):
        (tmp_path / name).write_text(name)
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "latest.safetensors").write_bytes(b"l")
    (tmp_path / "link").symlink_to(tmp_path / "log.txt")
    assert read_files(RunDirectory(tmp_path)) == {
        "checkpoint/latest.safetensors": b"l",
        "config.yml": b"config.yml",
    }


def test_what_a_killed_node_has_left_is_deleted_and_nothing_else(run: IdleRun, node: Path) -> None:
    abandoned = node / "mixcoder-run-abandoned"
    (abandoned / "runs").mkdir(parents=True)
    (abandoned / "lock").touch()
    (node / "mixcoder-run-new").mkdir()  # whose lock does not exist yet
    ray_node._remove_abandoned()
    assert sorted(path.name for path in node.iterdir()) == sorted([run._folder.name, "mixcoder-run-new"])
    (node / "mixcoder-run-new").rmdir()


def test_a_start_that_fails_leaves_nothing(node: Path) -> None:
    with pytest.raises(FileExistsError):
        IdleRun({**ORDER, "files": {"a": b"", "a/b": b""}})
    assert list(node.iterdir()) == []


def test_a_stop_before_the_start_stops(node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_node, "NodeRun", IdleRun)
    process = NodeProcess()
    process.stop()
    process.start(ORDER)
    assert process.news(10.0, with_checkpoint=True)["status"] == -15
    process.close()
