"""Writes that fail: at every call in turn, the old file or the new one is whole, and the run says why.

The calls are counted where `atomic_file` makes them; full disks, too, are the kernel's own in the last test.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import mixcoder
from mixcoder.data import ImageData
from mixcoder.errors import WriteError
from mixcoder.io import atomic_file
from mixcoder.io.atomic_file import remove_parts, write_atomically
from mixcoder.training.recipe import Recipe
from mixcoder.training.training_loop import TrainingLoop
from tests.conftest import slow

CALLS = ("open", "write", "fsync", "close", "replace")
OLD, NEW = b"old" * 50_000, b"new!" * 70_000


class Disk:
    """Stands for `os` in `atomic_file`: does what it does, but for the call that is to go wrong."""

    def __init__(self, fault: Callable[[str], None], at: int) -> None:
        self.fault, self.at, self.calls = fault, at, 0

    def __getattr__(self, name: str) -> Any:
        return self._counted(name) if name in CALLS else getattr(os, name)

    def _counted(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self.calls += 1
            if self.calls == self.at:
                if name == "write":  # what fails has often begun
                    os.write(arguments[0], arguments[1][: len(arguments[1]) // 2])
                self.fault(name)
            if name == "write":  # a kernel may take less than it was given
                arguments = (arguments[0], arguments[1][:100_000])
            return getattr(os, name)(*arguments)

        return call


def raising(number: int) -> Callable[[str], None]:
    def fault(name: str) -> None:
        raise OSError(number, os.strerror(number))

    return fault


def calls_of(write: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> int:
    """How many calls a whole write makes."""
    disk = Disk(lambda name: None, at=0)
    with monkeypatch.context() as patch:
        patch.setattr(atomic_file, "os", disk)
        write()
    return disk.calls


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS, errno.EDQUOT])
def test_a_failed_call_leaves_the_old_file_or_the_new(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    calls = calls_of(lambda: write_atomically(path, NEW), monkeypatch)
    assert calls >= 9
    kept = []
    for at in range(1, calls + 1):
        write_atomically(path, OLD)
        with monkeypatch.context() as patch:
            patch.setattr(atomic_file, "os", Disk(raising(number), at))
            with pytest.raises(WriteError, match=f"cannot write {path}: {os.strerror(number).lower()}"):
                write_atomically(path, NEW)
        kept.append(path.read_bytes())
        assert [each.name for each in tmp_path.iterdir()] == ["file"], "a part is left"
    assert set(kept) == {OLD, NEW}, "one of each is expected: before and after the swap"


def test_a_process_that_ends_at_any_call_leaves_the_old_file_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    calls = calls_of(lambda: write_atomically(path, NEW), monkeypatch)
    kept = []
    for at in range(1, calls + 1):
        write_atomically(path, OLD)
        child = os.fork()
        if not child:
            try:
                disk = Disk(lambda name: os.kill(os.getpid(), signal.SIGKILL), at)
                monkeypatch.setattr(atomic_file, "os", disk)
                write_atomically(path, NEW)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        kept.append(path.read_bytes())
        remove_parts(tmp_path)
        assert [each.name for each in tmp_path.iterdir()] == ["file"]
    assert set(kept) == {OLD, NEW}


def test_a_file_system_that_cannot_sync_folders_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = calls_of(lambda: write_atomically(tmp_path / "file", NEW), monkeypatch)
    (tmp_path / "file").unlink()
    monkeypatch.setattr(atomic_file, "os", Disk(raising(errno.EINVAL), calls - 1))
    write_atomically(tmp_path / "file", NEW)
    assert (tmp_path / "file").read_bytes() == NEW


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES])
def test_a_checkpoint_loads_after_every_failed_call(
    number: int, tmp_path: Path, tiny_data: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "latest.safetensors"

    def loop() -> TrainingLoop:
        model = mixcoder.create_model(
            "mixer", image_shape=(1, 4, 6), patch_size=2, hidden_channels=[9], latent_dim=4
        )
        return TrainingLoop(model, tiny_data, Recipe(steps=4, batch_size=8))

    first, weights = loop(), {}
    for progress in first.run():
        if progress.step == 2:
            break
        first.save(path)
        old = path.read_bytes()
        weights[progress.step] = {name: it.clone() for name, it in first.model.state_dict().items()}
    weights[2] = first.model.state_dict()
    loaded = set()
    for at in range(1, calls_of(lambda: first.save(path), monkeypatch) + 1):
        path.write_bytes(old)
        with monkeypatch.context() as patch:
            patch.setattr(atomic_file, "os", Disk(raising(number), at))
            with pytest.raises(WriteError):
                first.save(path)
        second = loop()
        second.restore(path)
        loaded.add(second.step)
        for name, weight in second.model.state_dict().items():
            assert torch.equal(weight, weights[second.step][name])
    assert loaded == {1, 2}


@slow
def test_a_disk_that_fills_up_costs_nothing_that_was_saved(tmp_path: Path) -> None:
    """The kernel refuses files above a size, first those of checkpoints; then there is room again."""
    (tmp_path / "x.yml").write_text(
        "name: x\n"
        "data: {source: digits}\n"
        "model: {type: mixer, patch_size: 4, hidden_channels: [64, 64], latent_dim: 16}\n"
        "training: {inputs: 6_400, validations: 4}\n"
    )

    def run(largest: int) -> subprocess.CompletedProcess[str]:
        def limit() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that writes fail, as on a full disk
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))

        return subprocess.run(
            [sys.executable, "-m", "mixcoder", "run", "x.yml"],
            cwd=tmp_path,
            preexec_fn=limit,
            capture_output=True,
            text=True,
            check=False,
        )

    full = run(16_384)
    assert full.returncode == 1
    [line] = [line for line in full.stderr.splitlines() if line.startswith("error:")]
    assert "cannot write" in line
    assert "file too large" in line
    assert "Traceback" not in full.stderr
    assert not list(tmp_path.rglob("*.part"))
    assert run(resource.RLIM_INFINITY).returncode == 0
    [result] = tmp_path.rglob("result.json")
    assert mixcoder.load(result.parent)(torch.rand(1, 1, 8, 8)).shape == (1, 1, 8, 8)
