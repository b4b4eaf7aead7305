"""The modes of new files and of those that take the place of others."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from mixcoder.io.atomic_file import replacing, write_atomically
from mixcoder.io.safetensors_file import write_tensors


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def write_by_another(path: Path) -> None:
    """As libraries do that make a file of their own in the place that they were given."""
    with replacing(path) as part:
        other = part.with_name("other")
        other.touch(0o600)
        other.replace(part)


WRITERS = {
    "bytes": lambda path: write_atomically(path, b"content"),
    "tensors": lambda path: write_tensors(path, {"x": torch.zeros(3)}, {}),
    "another library": write_by_another,
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize(("mask", "wanted"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_a_new_file_has_the_mode_that_the_umask_gives(
    tmp_path: Path, name: str, mask: int, wanted: int
) -> None:
    with umask(mask):
        WRITERS[name](tmp_path / "file")
    assert mode(tmp_path / "file") == wanted


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("kept", [0o600, 0o640, 0o664, 0o444])
def test_one_that_takes_the_place_of_another_keeps_its_mode(tmp_path: Path, name: str, kept: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    path.chmod(kept)
    WRITERS[name](path)
    assert path.read_bytes() != b"before"
    assert mode(path) == kept


def test_the_place_of_a_link_is_taken_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_bytes(b"theirs")
    (tmp_path / "file").symlink_to("theirs")
    with umask(0o022):
        write_atomically(tmp_path / "file", b"ours")
    assert not (tmp_path / "file").is_symlink()
    assert mode(tmp_path / "file") == 0o644
    assert (tmp_path / "theirs").read_bytes() == b"theirs"
