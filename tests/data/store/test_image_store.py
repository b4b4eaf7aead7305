"""The packed store: what went in comes out, a packing that is cut off goes on, damage is told."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mixcoder.data.store.image_store import ImageStore, open_store, pack
from mixcoder.errors import DataError, WriteError
from mixcoder.pixels.codec import ImageError, Pixels
from tests.conftest import slow
from tests.data.pictures import flat

ROOT = Path(__file__).parents[3]
HEADER = 4096
NAMES = [str(number) for number in range(30)]
Decode = Callable[[str], Pixels]


@pytest.fixture
def short_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal is written every four images."""
    monkeypatch.setattr("mixcoder.data.store.image_store._SYNC_IMAGES", 4)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of an undisturbed packing."""
    return pack(tmp_path_factory.mktemp("whole") / "store.safetensors", NAMES, flat, "a key").path


def counted(decode: Decode, calls: list[str]) -> Decode:
    """The same, with its calls noted."""

    def noted(name: str) -> Pixels:
        calls.append(name)
        return decode(name)

    return noted


def interrupted_at(number: int) -> Decode:
    def decode(name: str) -> Pixels:
        if int(name) >= number:
            raise KeyboardInterrupt
        return flat(name)

    return decode


def pack_and_interrupt(path: Path, key: str = "a key") -> None:
    """A packing that ends after twenty images; they are in the journal."""
    with pytest.raises(KeyboardInterrupt):
        pack(path, NAMES, interrupted_at(20), key)
    assert not path.exists()
    assert len(path.with_suffix(".journal").read_bytes().splitlines()) == 21


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


@given(
    sizes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 9),
)
def test_what_is_packed_comes_back(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[tuple[int, int]], channels: int, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    images = {
        f"{seed}/{row}": generator.integers(0, 256, (channels, *size), dtype=np.uint8)
        for row, size in enumerate(sizes)
    }
    names = list(images)[::-1]
    store = pack(tmp_path_factory.mktemp("it") / "s.safetensors", names, images.__getitem__, "key")
    assert (len(store), store.channels, store.names, store.left_out) == (len(sizes), channels, names, {})
    assert store.pixels.dtype == torch.uint8
    for row, name in enumerate(names):
        assert np.array_equal(store.image(row).numpy(), images[name])
    assert open_store(store.path).sha256 == store.sha256


def test_what_cannot_be_used_is_left_out_with_its_reason(tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []

    def decode(name: str) -> Pixels:
        if name in ("2", "5"):
            raise ImageError(f"is a {name}")
        return flat(name)

    store = pack(tmp_path / "s.safetensors", NAMES[:7], decode, "key", lambda *at: told.append(at))
    assert store.names == ["0", "1", "3", "4", "6"]
    assert store.left_out == {"2": "is a 2", "5": "is a 5"}
    assert [int(store.image(row).max()) for row in range(5)] == [0, 1, 3, 4, 6]
    assert told == [(n, 7) for n in range(1, 8)]
    assert leftovers(tmp_path) == ["s.safetensors"]


def test_a_store_that_is_there_is_not_made_again(tmp_path: Path) -> None:
    calls: list[str] = []
    for _ in range(2):
        pack(tmp_path / "s.safetensors", NAMES, counted(flat, calls), "key")
    assert sorted(calls, key=int) == NAMES


def test_names_of_any_kind(tmp_path: Path) -> None:
    names = ["new\nline", "\udcff not UTF-8", "ärger", "'\"\\,;", ""]
    store = pack(tmp_path / "s.safetensors", names, lambda name: flat(str(len(name))), "key")
    assert store.names == names


@pytest.mark.usefixtures("short_steps")
def test_an_interrupted_packing_goes_on(tmp_path: Path, whole: Path) -> None:
    path, calls = tmp_path / "s.safetensors", list[str]()
    pack_and_interrupt(path)
    pack(path, NAMES, counted(flat, calls), "a key")
    assert sorted(calls, key=int) == NAMES[20:]
    assert path.read_bytes() == whole.read_bytes()
    assert leftovers(tmp_path) == ["s.safetensors"]


@pytest.mark.usefixtures("short_steps")
def test_what_was_left_out_before_the_interruption_stays_so(tmp_path: Path) -> None:
    def decode(name: str) -> Pixels:
        if name == "3":
            raise ImageError("is a 3")
        return interrupted_at(20)(name)

    with pytest.raises(KeyboardInterrupt):
        pack(tmp_path / "s.safetensors", NAMES, decode, "a key")
    store = pack(tmp_path / "s.safetensors", NAMES, flat, "a key")
    assert store.left_out == {"3": "is a 3"}
    assert len(store) == 29


KILLED = """
import sys, time
from pathlib import Path
import mixcoder.data.store.image_store as store
from tests.data.pictures import flat

def slow(name):
    time.sleep(0.01)
    return flat(name)

store._SYNC_IMAGES = 4
store.pack(Path(sys.argv[1]), [str(number) for number in range(int(sys.argv[2]))], slow, "a key")
"""


def packing_process(path: Path, count: int) -> subprocess.Popen[bytes]:
    """Another process that packs slowly; it has begun."""
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(path), str(count)], cwd=ROOT)
    journal = path.with_suffix(".journal")
    while not (journal.exists() and len(journal.read_bytes().splitlines()) > 8):
        assert process.poll() is None
        time.sleep(0.005)
    return process


def test_a_killed_packing_goes_on(tmp_path: Path) -> None:
    path, calls = tmp_path / "s.safetensors", list[str]()
    names = [str(number) for number in range(500)]
    process = packing_process(path, len(names))
    process.kill()
    assert process.wait() == -signal.SIGKILL
    recorded = len(path.with_suffix(".journal").read_bytes().splitlines()) - 1
    pack(path, names, counted(flat, calls), "a key")
    assert sorted(calls, key=int) == names[recorded:]
    assert path.read_bytes() == pack(tmp_path / "other.safetensors", names, flat, "a key").path.read_bytes()


@slow
def test_a_second_process_waits_and_finds_the_store(tmp_path: Path) -> None:
    path, calls = tmp_path / "s.safetensors", list[str]()
    names = [str(number) for number in range(60)]
    process = packing_process(path, len(names))
    store = pack(path, names, counted(flat, calls), "a key")
    assert process.wait() == 0
    assert calls == []
    assert store.names == names
    assert path.read_bytes() == pack(tmp_path / "other.safetensors", names, flat, "a key").path.read_bytes()


def cut(path: Path, count: int) -> None:
    path.write_bytes(path.read_bytes()[:-count])


def flip(path: Path, position: int, bits: int = 0x01) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= bits
    path.write_bytes(content)


def enlarge_last(journal: Path) -> None:
    """Lets the last line of a journal claim an image of 10^18 pixels."""
    *lines, last = journal.read_bytes().splitlines(keepends=True)
    side = 10**9
    sizes = {"channels": 1, "height": side, "width": side, "bytes": side * side}
    text = json.dumps(json.loads(last.partition(b" ")[2]) | sizes).encode() + b"\n"
    journal.write_bytes(b"".join(lines) + b"%08x %s" % (zlib.crc32(text), text))


FIVE_IMAGES = sum(flat(name).nbytes for name in NAMES[:5])
DAMAGED: dict[str, tuple[Callable[[Path, Path], object], int]] = {
    "nothing": (lambda part, journal: None, 20),
    "journal torn": (lambda part, journal: cut(journal, 7), 19),
    "journal torn at a line's end": (lambda part, journal: cut(journal, 1), 19),
    "journal goes on with zeros": (
        lambda part, journal: journal.write_bytes(journal.read_bytes() + bytes(99)),
        20,
    ),
    "an image larger than all memory": (lambda part, journal: enlarge_last(journal), 19),
    "journal empty": (lambda part, journal: journal.write_bytes(b""), 0),
    "no journal": (lambda part, journal: journal.unlink(), 0),
    "no pixels": (lambda part, journal: part.unlink(), 0),
    "a pixel flipped": (lambda part, journal: flip(part, HEADER + FIVE_IMAGES), 5),
    "pixels torn": (lambda part, journal: cut(part, 1), 19),
    "pixels not recorded": (lambda part, journal: part.write_bytes(part.read_bytes() + b"more" * 99), 20),
    "pixels empty": (lambda part, journal: part.write_bytes(b""), 0),
}


@pytest.mark.usefixtures("short_steps")
@pytest.mark.parametrize("kind", DAMAGED)
def test_what_an_interrupted_packing_left_damaged_is_made_again(
    tmp_path: Path, whole: Path, kind: str
) -> None:
    path, calls = tmp_path / "s.safetensors", list[str]()
    pack_and_interrupt(path)
    damage, kept = DAMAGED[kind]
    damage(path.with_suffix(".part"), path.with_suffix(".journal"))
    pack(path, NAMES, counted(flat, calls), "a key")
    assert sorted(calls, key=int) == NAMES[kept:]
    assert path.read_bytes() == whole.read_bytes()


@pytest.mark.usefixtures("short_steps")
def test_whatever_byte_of_the_journal_is_damaged(tmp_path: Path, whole: Path) -> None:
    pack_and_interrupt(tmp_path / "cut" / "s.safetensors")
    size = (tmp_path / "cut" / "s.journal").stat().st_size
    for number, position in enumerate(range(0, size, 61)):
        folder = tmp_path / str(number)
        shutil.copytree(tmp_path / "cut", folder)
        flip(folder / "s.journal", position, 1 << number % 8)
        assert pack(folder / "s.safetensors", NAMES, flat, "a key").path.read_bytes() == whole.read_bytes()


STRANGE_ENTRIES: list[object] = [
    None, 3, [], {}, {"name": "3"}, {"name": "3", "bytes": "many"}, {"name": "3", "reason": ["is damaged"]},
    {"name": "3", "channels": 3, "height": -1, "width": -1, "bytes": 3, "crc": 0},
    {"name": "3", "channels": 3, "height": 1, "width": 1, "bytes": 10**12, "crc": 0},
    {"name": "7", "reason": "is damaged", "bytes": 0, "crc": 0},
]  # fmt: skip


@pytest.mark.usefixtures("short_steps")
@pytest.mark.parametrize("entry", STRANGE_ENTRIES, ids=str)
def test_a_journal_of_somebody_else_is_left_where_it_is_strange(
    tmp_path: Path, whole: Path, entry: object
) -> None:
    """Its checksums fit."""
    path, calls = tmp_path / "s.safetensors", list[str]()
    pack_and_interrupt(path)
    journal = path.with_suffix(".journal")
    lines = journal.read_bytes().splitlines(keepends=True)
    text = json.dumps(entry).encode() + b"\n"
    lines[1 + 3] = b"%08x %s" % (zlib.crc32(text), text)
    journal.write_bytes(b"".join(lines))
    pack(path, NAMES, counted(flat, calls), "a key")
    assert sorted(calls, key=int) == NAMES[3:]
    assert path.read_bytes() == whole.read_bytes()


def test_a_kill_behind_the_last_step_leaves_nothing(tmp_path: Path, whole: Path) -> None:
    path = tmp_path / "s.safetensors"
    shutil.copy(whole, path)
    path.with_suffix(".journal").write_bytes(b"of a packing that did not come to remove it")
    pack(path, NAMES, flat, "a key")
    assert leftovers(tmp_path) == [path.name]


@pytest.mark.usefixtures("short_steps")
@pytest.mark.parametrize("change", ["key", "names"])
def test_a_packing_of_something_else_begins_anew(tmp_path: Path, change: str) -> None:
    path, calls = tmp_path / "s.safetensors", list[str]()
    pack_and_interrupt(path)
    names = NAMES if change == "key" else NAMES[::-1]
    store = pack(path, names, counted(flat, calls), "another key" if change == "key" else "a key")
    assert sorted(calls, key=int) == NAMES
    assert store.names == names
    assert [int(store.image(row).max()) for row in range(30)] == [int(name) for name in names]


def test_damage_in_a_finished_store_is_told(tmp_path: Path, whole: Path) -> None:
    path, size = tmp_path / "s.safetensors", whole.stat().st_size
    for position in (HEADER, HEADER + 200, size - 500, size - 1):
        shutil.copy(whole, path)
        flip(path, position)
        with pytest.raises(DataError, match="s.safetensors: is damaged .its checksum differs.; delete it"):
            open_store(path)
        with pytest.raises(DataError, match="is damaged"):
            pack(path, NAMES, flat, "a key")
    for length in (0, 7, 8, 100, HEADER - 1, HEADER, HEADER + 9, size - 1):
        path.write_bytes(whole.read_bytes()[:length])
        with pytest.raises(DataError, match="is damaged"):
            open_store(path)
    path.write_bytes(whole.read_bytes() + b"\0")
    with pytest.raises(DataError, match="is damaged"):
        open_store(path)


def test_no_byte_of_the_header_can_be_changed_unnoticed(tmp_path: Path, whole: Path) -> None:
    path, header = tmp_path / "s.safetensors", whole.read_bytes()[:HEADER].rstrip()
    store = open_store(whole)
    refused = 0
    for position in range(0, len(header), 5):
        shutil.copy(whole, path)
        flip(path, position, 1 << position % 8)
        try:
            opened = open_store(path)
        except DataError as error:
            refused += 1
            assert "is damaged" in str(error)
            continue
        assert (opened.channels, opened.names) == (store.channels, store.names)
        assert all(torch.equal(opened.image(row), store.image(row)) for row in range(len(store)))
    assert refused > len(header) // 10


def test_there_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        open_store(tmp_path / "s.safetensors")
    with pytest.raises(DataError, match="is damaged"):
        open_store(tmp_path)


FORMS = {"uint8": "U8", "int64": "I64", "int32": "I32", "float32": "F32", "uint64": "U64"}
TWO = {"names": ["a", "b"], "left_out": {"c": "is a c"}}


def forged(path: Path, **changes: Any) -> Path:
    """A store of a 2 x 3 and a 4 x 5 image of one channel, with changes, and the right checksum for them."""
    index = changes.pop("index", TWO)
    text = index if isinstance(index, bytes) else json.dumps(index).encode()
    metadata = {"channels": changes.pop("channels", "1")}
    tensors = {
        "pixels": np.arange(32, dtype=np.uint8),
        "offsets": np.array([0, 6]),
        "sizes": np.array([[2, 3], [4, 5]]),
        "index": np.frombuffer(text, dtype=np.uint8),
        **changes,
    }
    header: dict[str, Any] = {}
    body = b""
    for name, tensor in tensors.items():
        if tensor is not None:
            begin, body = len(body), body + tensor.tobytes()
            form = {"dtype": FORMS[tensor.dtype.name], "shape": tensor.shape}
            header[name] = {**form, "data_offsets": [begin, len(body)]}
    header["__metadata__"] = {**metadata, "sha256": hashlib.sha256(body).hexdigest()}
    room = HEADER - 8
    path.write_bytes(room.to_bytes(8, "little") + json.dumps(header).encode().ljust(room) + body)
    return path


def test_the_forged_store_is_right_but_for_its_changes(tmp_path: Path) -> None:
    store = open_store(forged(tmp_path / "s.safetensors"))
    assert store.image(1).tolist() == np.arange(6, 26).reshape(1, 4, 5).tolist()
    assert (store.names, store.left_out) == (TWO["names"], TWO["left_out"])


def int64(*values: object) -> np.ndarray[Any, Any]:
    return np.array(values, dtype=np.int64)


FORGED: dict[str, dict[str, Any]] = {
    "no pixels": {"pixels": None},
    "no index": {"index": b""},
    "pixels in rows": {"pixels": np.zeros((4, 8), dtype=np.uint8)},
    "pixels as numbers": {"pixels": np.zeros(32, dtype=np.float32)},
    "too few pixels": {"pixels": np.zeros(24, dtype=np.uint8)},
    "too many pixels": {"pixels": np.zeros(40, dtype=np.uint8)},
    "offset behind the pixels": {"offsets": int64(0, 33)},
    "offset within another image": {"offsets": int64(0, 5)},
    "offset before the pixels": {"offsets": int64(-6, 0)},
    "offsets in a table": {"offsets": int64([0, 6])},
    "too few offsets": {"offsets": int64(0)},
    "offsets that are no whole numbers": {"offsets": np.array([0, 6], dtype=np.float32)},
    "offsets of four bytes": {"offsets": np.array([0, 6], dtype=np.int32)},
    "image larger than the pixels": {"sizes": int64([2, 3], [40, 50])},
    "image of no height": {"sizes": int64([2, 3], [0, 5])},
    "image of negative size": {"sizes": int64([2, 3], [-4, -5])},
    "sizes that overflow to nothing": {
        "sizes": int64([2, 3], [2**32, 2**32]),
        "pixels": np.zeros(6, dtype=np.uint8),
    },
    "sizes that overflow to what is right": {"sizes": int64([2, 3], [4, 2**62 + 5])},
    "sizes of three numbers": {"sizes": int64([2, 3, 1], [4, 5, 1])},
    "sizes in a row": {"sizes": int64(2, 3, 4, 5)},
    "more channels": {"channels": "3"},
    "no channels": {"channels": "0"},
    "negative channels": {"channels": "-1"},
    "channels that are no number": {"channels": "one"},
    "an index that is not JSON": {"index": b"{"},
    "an index that is not UTF-8": {"index": b'{"names": ["\xff", "b"], "left_out": {}}'},
    "an index of endless depth": {"index": b"[" * 200_000},
    "an index that is a list": {"index": [["a", "b"], {}]},
    "an index without names": {"index": {"left_out": {}}},
    "an index without reasons": {"index": {"names": ["a", "b"]}},
    "too few names": {"index": {"names": ["a"], "left_out": {}}},
    "too many names": {"index": {"names": ["a", "b", "c"], "left_out": {}}},
    "names that are a text": {"index": {"names": "ab", "left_out": {}}},
    "names that are keys": {"index": {"names": {"a": 1, "b": 2}, "left_out": {}}},
    "names that are numbers": {"index": {"names": [1, 2], "left_out": {}}},
    "names that no file can have": {"index": {"names": ["a", "\ud800"], "left_out": {}}},
    "reasons in a list": {"index": {"names": ["a", "b"], "left_out": ["c"]}},
    "reasons that are numbers": {"index": {"names": ["a", "b"], "left_out": {"c": 1}}},
    "no image": {
        "pixels": np.zeros(0, dtype=np.uint8),
        "offsets": np.zeros(0, dtype=np.int64),
        "sizes": np.zeros((0, 2), dtype=np.int64),
        "index": {"names": [], "left_out": {}},
    },
}


@pytest.mark.parametrize("kind", FORGED)
def test_a_forged_store_is_refused(tmp_path: Path, kind: str) -> None:
    path = forged(tmp_path / "s.safetensors", **FORGED[kind])
    with pytest.raises(DataError, match="s.safetensors: is damaged "):
        open_store(path)


def test_no_image_can_be_used(tmp_path: Path) -> None:
    def decode(name: str) -> Pixels:
        raise ImageError("is not one")

    with pytest.raises(DataError, match="none of 30 images can be used; 0: is not one"):
        pack(tmp_path / "s.safetensors", NAMES, decode, "key")
    with pytest.raises(DataError, match=r"none of 1 images can be used; a\\x1b\[2J\.png: is not one"):
        pack(tmp_path / "s.safetensors", ["a\x1b[2J.png"], decode, "key")
    with pytest.raises(DataError, match="there is no image"):
        pack(tmp_path / "t.safetensors", [], decode, "key")
    assert not list(tmp_path.glob("*.safetensors"))


def test_nowhere_to_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WriteError, match="cannot write .*file/s.safetensors: (file exists|not a directory)"):
        pack(tmp_path / "file" / "s.safetensors", NAMES, flat, "key")
    (tmp_path / "s.part").mkdir()
    with pytest.raises(WriteError, match="cannot write .*s.safetensors: is a directory"):
        pack(tmp_path / "s.safetensors", NAMES, flat, "key")


def test_an_image_is_a_view(whole: Path) -> None:
    store: ImageStore = open_store(whole)
    assert store.image(3).data_ptr() == store.pixels.data_ptr() + int(store.offsets[3])
