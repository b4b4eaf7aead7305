"""Files that grow: nothing is written through a link, a pipe or a device in their place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mixcoder.errors import WriteError
from mixcoder.io.appended_file import check_no_links, open_to_append


def test_a_plain_file_grows_and_a_new_one_has_the_mode_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        for content in (b"one ", b"two"):
            with open_to_append(tmp_path / "file") as file:
                file.write(content)
    finally:
        os.umask(before)
    assert (tmp_path / "file").read_bytes() == b"one two"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("target", ["theirs", "missing", "/dev/null", "file"])
def test_a_link_is_not_followed(tmp_path: Path, target: str) -> None:
    (tmp_path / "theirs").write_bytes(b"theirs")
    (tmp_path / "file").symlink_to(target)
    with pytest.raises(WriteError, match="file: it is a link, which may lead anywhere; delete it"):
        open_to_append(tmp_path / "file")
    assert (tmp_path / "theirs").read_bytes() == b"theirs"
    assert not (tmp_path / "missing").exists()


def test_a_pipe_is_neither_waited_for_nor_filled(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "file")
    with pytest.raises(WriteError, match="cannot write"):
        open_to_append(tmp_path / "file")
    reader = os.open(tmp_path / "file", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(WriteError, match="it is no plain file"):
            open_to_append(tmp_path / "file")
    finally:
        os.close(reader)


def test_a_folder_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="is a directory"):
        open_to_append(tmp_path)


def test_linked_folders_and_named_files_are_refused(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoint").mkdir(parents=True)
    (run / "other").symlink_to(tmp_path / "missing")
    check_no_links(run, files={".lock"})
    for name in (".lock", "tensorboard"):
        (run / name).symlink_to(tmp_path)
        with pytest.raises(WriteError, match=f"cannot write .*run/{name}: it is a link"):
            check_no_links(run, files={".lock"})
        (run / name).unlink()
