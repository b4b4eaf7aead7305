"""Packed stores that several processes make and remove, and that are killed at any step: whole and right."""

from __future__ import annotations

import csv
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mixcoder.data.fetch_progress import no_progress
from mixcoder.data.store.image_store import ImageStore, open_store
from mixcoder.data.store.pack_cache import describe_left_out, pack_into, pack_path
from mixcoder.pixels.codec import ImageError, Pixels
from tests.conftest import slow
from tests.data.pictures import flat

ROOT = Path(__file__).parents[3]
NAMES = [str(number) for number in range(40)]


def decode(name: str) -> Pixels:
    if int(name) % 7 == 3:
        raise ImageError(f"is a {name}")
    return flat(name)


def packed(path: Path, names: list[str] = NAMES) -> ImageStore:
    return pack_into(path, names, decode, no_progress("", ""))


def check_whole(path: Path, names: list[str] = NAMES) -> None:
    """The store holds all images and no others, and its list says which were left out."""
    store = open_store(path)
    assert store.names == [name for name in names if int(name) % 7 != 3]
    assert store.left_out == {name: f"is a {name}" for name in names if int(name) % 7 == 3}
    assert [int(store.image(row).max()) for row in range(len(store))] == [int(it) % 256 for it in store.names]
    with path.with_suffix(".left-out.csv").open(newline="") as file:
        assert dict(list(csv.reader(file))[1:]) == store.left_out
    assert {other.suffix for other in path.parent.iterdir()} == {".safetensors", ".csv", ".lock"}


@pytest.fixture
def states(empty_cache: Path) -> list[Path]:
    """The stores of a collection before and after its images changed."""
    return [pack_path("photos", "photos", content) for content in ("before", "after")]


KILLED = """
import os, signal, sys
from pathlib import Path
import mixcoder.data.store.image_store as store
from tests.data.store.test_pack_cache import packed

store._SYNC_IMAGES = 4
path, step = Path(sys.argv[1]), 0
while True:
    step += 1
    child = os.fork()
    if child == 0:
        left = step

        def kill(event, arguments):
            global left
            if event in ("open", "os.rename", "os.remove") and str(path.parent) in str(arguments[0]):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(kill)
        packed(path)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status == 0:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL, status
    for other in path.parent.glob("*") if step % 3 == 0 else []:  # from the beginning, now and then
        other.unlink()
print(step)
"""


@slow
def test_killed_before_every_file_that_is_opened_renamed_or_removed(states: list[Path]) -> None:
    command = [sys.executable, "-c", KILLED, str(states[0])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 8
    check_whole(states[0])


ENDED = """
import os, signal, sys
from pathlib import Path
from tests.data.store.test_pack_cache import packed

def kill(event, arguments):
    if event == "os.rename" and str(arguments[1]).endswith(".left-out.csv"):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(kill)
packed(Path(sys.argv[1]))
"""


@slow
def test_a_kill_between_the_store_and_its_list(states: list[Path]) -> None:
    process = subprocess.run([sys.executable, "-c", ENDED, str(states[0])], cwd=ROOT)
    assert process.returncode == -9
    table = states[0].with_suffix(".left-out.csv")
    assert states[0].exists()
    assert not table.exists()
    store = packed(states[0])
    assert describe_left_out(store) == f"6 of 40 images are left out: {table} says why"
    check_whole(states[0])


SLOW = """
import sys, time
from pathlib import Path
import mixcoder.data.store.image_store as store
import tests.data.store.test_pack_cache as cache

store._SYNC_IMAGES = 1
decode = cache.decode

def slowly(name):
    time.sleep(0.1)
    return decode(name)

cache.decode = slowly
cache.packed(Path(sys.argv[1]))
"""


def slow_process(path: Path) -> subprocess.Popen[bytes]:
    """Another process that packs slowly; it has begun."""
    process = subprocess.Popen([sys.executable, "-c", SLOW, str(path)], cwd=ROOT)
    while not (path.with_suffix(".journal").exists() and path.with_suffix(".part").exists()):
        assert process.poll() is None
        time.sleep(0.01)
    return process


@slow
def test_a_process_that_packs_other_images_of_the_folder_is_left_alone(states: list[Path]) -> None:
    before, after = states
    process = slow_process(before)
    packed(after)
    assert process.poll() is None, "the other process was to be at work still"
    assert before.with_suffix(".journal").exists()
    check_after = open_store(after)
    assert process.wait() == 0
    check_whole(before)
    assert len(check_after) == 34


@slow
def test_two_processes_pack_one_folder(states: list[Path]) -> None:
    processes = [slow_process(states[0])]
    processes += [subprocess.Popen([sys.executable, "-c", SLOW, str(states[0])], cwd=ROOT) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    check_whole(states[0])


@slow
def test_what_a_killed_packing_of_an_earlier_state_left_goes(states: list[Path]) -> None:
    before, after = states
    process = slow_process(before)
    process.kill()
    process.wait()
    packed(after)
    check_whole(after)
    assert [path.suffix for path in before.parent.glob(f"{before.stem}*")] == [".lock"]
