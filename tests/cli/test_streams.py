"""Output that nobody takes any more ends nothing that is worth more than it."""

from __future__ import annotations

import os
import subprocess
import sys
from io import TextIOWrapper
from pathlib import Path

import pytest

from mixcoder.cli.streams import ignore_failures
from tests.conftest import slow

FILE = """\
name: q
data: {source: digits}
model: {type: mixer, patch_size: 4, hidden_channels: [16], latent_dim: 8}
training: {inputs: 640}
"""


def broken_pipe() -> TextIOWrapper:
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w", buffering=1)


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_pipe_without_a_reader_takes_everything(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with broken_pipe() as stream:
        monkeypatch.setattr(sys, name, stream)
        with ignore_failures(name, BrokenPipeError):
            for _ in range(3):
                print("a line", file=getattr(sys, name))
        assert getattr(sys, name) is stream
        print("another", file=stream)


def test_a_disk_that_is_full_is_still_told_of_results(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = open("/dev/full", "w", buffering=1)  # noqa: PTH123, SIM115
    monkeypatch.setattr(sys, "stdout", stream)
    with pytest.raises(OSError, match="No space left"), ignore_failures("stdout", BrokenPipeError):
        print("a result")
    with pytest.raises(OSError, match="No space left"):
        stream.close()


@slow
def test_training_goes_on_when_nobody_reads(tmp_path: Path) -> None:
    (tmp_path / "b.yml").write_text(FILE)
    with broken_pipe() as stream:
        command = [sys.executable, "-m", "mixcoder", "run", "b.yml"]
        ended = subprocess.run(command, cwd=tmp_path, stdout=stream, stderr=stream, check=False)
    assert ended.returncode == 0
    assert len(list(tmp_path.rglob("result.json"))) == 1
