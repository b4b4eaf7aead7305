"""IDX files, sound and damaged."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mixcoder.data.sources.idx import read_idx
from mixcoder.errors import DataError
from tests.pace import at_most

SHAPE = (3, 2, 4)
HEADER = struct.pack(">HBB3I", 0, 8, 3, *SHAPE)
SOUND = HEADER + bytes(range(24))


@pytest.mark.parametrize("name", ["images", "images.gz"])
def test_reads_plain_and_gzipped(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(SOUND) if name.endswith(".gz") else SOUND)
    assert torch.equal(read_idx(path, SHAPE), torch.arange(24, dtype=torch.uint8).reshape(SHAPE))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (SOUND[:-5], "is truncated, it ends 5 bytes early; delete it and fetch it again"),
        (SOUND + b"!", "is longer than the 40 bytes that it states"),
        (SOUND[:10], r"holds an array of 3, expected 3 x 2 x 4"),
        (b"", "is not an IDX file"),
        (b"<html>not found</html>", "is not an IDX file of 3-dimensional unsigned bytes"),
        (struct.pack(">HBB3I", 0, 8, 3, 9, 2, 4), "holds an array of 9 x 2 x 4, expected 3 x 2 x 4"),
        (struct.pack(">HBB1I", 0, 8, 1, 24), "is not an IDX file of 3-dimensional"),
        (struct.pack(">HBB3I", 0, 13, 3, *SHAPE), "is not an IDX file"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "damaged"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"damaged: {sentence}"):
        read_idx(path, SHAPE)


def test_damaged_gzip(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    packed = gzip.compress(SOUND)
    for content in (packed[:-9], b"not gzip at all", packed[:-8] + bytes(8), packed + b"!", packed * 2):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"images.gz: cannot be read, it may be truncated"):
            read_idx(path, SHAPE)


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(SOUND + bytes(50_000_000)))
    with pytest.raises(DataError, match="is longer than"):
        read_idx(path, SHAPE)


def test_padding_after_the_packed_file_is_none_of_it(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(SOUND) + bytes(512))
    assert read_idx(path, SHAPE).shape == SHAPE


@pytest.mark.parametrize(
    "content",
    [gzip.compress(b"") * 500_000, gzip.compress(b"")[:3] + b"\x08" + bytes(6) + b"name" * 2_000_000],
    ids=["half a million empty members", "a name of eight million letters"],
)
def test_no_packing_takes_long(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read"), at_most(yardsticks=10):
        read_idx(path, (60_000, 28, 28))


@pytest.mark.parametrize("name", ["images", "images.gz"])
def test_no_memory_is_taken_for_what_a_file_does_not_hold(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(SOUND) if name.endswith(".gz") else SOUND)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="holds an array of"):
            read_idx(path, (255, 255, 255))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path / "nothing.gz", SHAPE)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_any_bytes_are_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(gzip.compress(SOUND) if data.draw(st.booleans()) else SOUND)
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / f"f{data.draw(st.sampled_from(['', '.gz']))}"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        assert read_idx(path, SHAPE).shape == SHAPE
    except DataError as error:
        assert str(path) in str(error)
