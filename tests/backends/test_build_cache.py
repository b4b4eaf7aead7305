"""Compiled code is whole, the user's own, and made for this machine; or it is made anew."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from mixcoder.backends import build_cache
from mixcoder.backends.build_cache import build_once, cache_key, find_built
from mixcoder.backends.inductor.compiled_graph import _private_inductor
from mixcoder.errors import MixcoderWarning
from mixcoder.io.file_lock import file_lock
from tests.conftest import needs_compiler, slow

CONTENT = bytes(range(256)) * 20

needs_modes = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows has no such modes")
as_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives folders away"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where compiled code is kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mixcoder" / "compiled"


def write(path: Path) -> None:
    path.write_bytes(CONTENT)


def fail(path: Path) -> None:
    raise AssertionError("what is there is not built again")


def program(code: str) -> list[str]:
    """The command of a process that builds."""
    imports = "import os, signal, sys, time\nfrom mixcoder.backends.build_cache import build_once\n"
    return [sys.executable, "-c", imports + code]


def test_what_is_built_is_found_and_nobody_else_can_read_it(folder: Path) -> None:
    before = os.umask(0)
    try:
        assert find_built("k", ".so") is None
        path = build_once("k", ".so", write)
    finally:
        os.umask(before)
    assert path.parent == folder
    assert folder.stat().st_mode & 0o777 == 0o700
    assert path.read_bytes() == CONTENT
    assert find_built("k", ".so") == build_once("k", ".so", fail) == path
    assert find_built("k", ".pt2") is find_built("other", ".so") is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content[:4096],
        lambda content: content[:1000] + bytes([content[1000] ^ 1]) + content[1001:],
        lambda content: content + b"\0",
    ],
)
def test_what_is_damaged_is_built_again(folder: Path, damage: Callable[[bytes], bytes]) -> None:
    path = build_once("k", ".so", write)
    path.write_bytes(damage(CONTENT))
    assert find_built("k", ".so") is None
    assert build_once("k", ".so", write).read_bytes() == CONTENT
    assert len(list(folder.glob("*.so"))) == 1


def test_a_build_that_fails_leaves_nothing(folder: Path) -> None:
    def half(path: Path) -> None:
        path.write_bytes(CONTENT[:10])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        build_once("k", ".so", half)
    assert [path.name for path in folder.iterdir()] == ["k.lock"]


@slow
def test_a_process_killed_while_it_builds_leaves_nothing_that_lasts(folder: Path) -> None:
    code = """
def build(path):
    path.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
build_once("k", ".so", build)
"""
    assert subprocess.run(program(code), check=False).returncode == -signal.SIGKILL
    assert list(folder.glob(".*.part"))
    assert find_built("k", ".so") is None
    build_once("other", ".so", write)
    assert not list(folder.glob(".*.part"))
    assert build_once("k", ".so", write).read_bytes() == CONTENT


@slow
def test_of_two_processes_one_builds(folder: Path, tmp_path: Path) -> None:
    code = f"""
def build(path):
    with open({str(tmp_path / "built")!r}, "a") as log: log.write("once")
    time.sleep(1)
    path.write_text("content")
print("ready", flush=True); sys.stdin.readline()
print(build_once("k", ".so", build).read_text())
"""
    pipe = subprocess.PIPE
    both = [subprocess.Popen(program(code), text=True, stdin=pipe, stdout=pipe) for _ in range(2)]
    for process in both:
        assert process.stdout
        process.stdout.readline()
    assert [process.communicate("go\n", timeout=120)[0] for process in both] == ["content\n"] * 2
    assert (tmp_path / "built").read_text() == "once"


@slow
def test_an_abandoned_part_of_a_living_process_stays(folder: Path) -> None:
    """Another process may build while this one does."""

    def build(path: Path) -> None:
        subprocess.run(program("build_once('other', '.so', lambda path: path.write_bytes(b'1'))"), check=True)
        write(path)

    assert build_once("k", ".so", build).read_bytes() == CONTENT


@needs_modes
@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777])
def test_a_folder_that_others_can_write_to_is_not_used(folder: Path, mode: int) -> None:
    planted = build_once("k", ".so", write)
    folder.chmod(mode)
    with pytest.warns(MixcoderWarning, match="can be written by other users; delete it") as told:
        path = build_once("k", ".so", write)
    assert len(told) == 1
    assert path.parent not in (folder, planted.parent)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert build_once("k", ".so", fail) == path  # for as long as this process lives, and it is told but once


@needs_modes
@pytest.mark.parametrize("mode", [0o777, 0o772])
def test_a_folder_that_others_can_rename_is_not_used(folder: Path, mode: int) -> None:
    planted = build_once("k", ".so", write)
    folder.parent.chmod(mode)
    with pytest.warns(
        MixcoderWarning, match=f"lies in {folder.parent}, where other users can rename it; set"
    ):
        assert build_once("k", ".so", write).parent != planted.parent
    folder.parent.chmod(mode | 0o1000)  # as /tmp is: only its owner renames a folder
    assert build_once("k", ".so", fail) == planted


@needs_modes
def test_a_group_of_the_user_alone_is_no_other_user(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the umask 002, as several systems have it, a folder of the user is its group's too."""
    import grp
    import pwd

    path = build_once("private", ".so", write)
    folder.parent.chmod(0o775)
    user = pwd.getpwuid(os.geteuid()).pw_name
    group = SimpleNamespace(gr_name=user, gr_mem=[user])
    monkeypatch.setattr(grp, "getgrgid", lambda number: group)
    assert build_once("private", ".so", fail) == path
    group.gr_mem.append("somebody")
    with pytest.warns(MixcoderWarning, match="where other users can rename it"):
        assert find_built("private", ".so") is None


@as_root
def test_a_folder_in_another_user_s_is_not_used(folder: Path) -> None:
    build_once("foreign", ".so", write)
    os.chown(folder.parent, 12345, 12345)
    with pytest.warns(MixcoderWarning, match=f"lies in {folder.parent}, where other users can rename it"):
        assert find_built("foreign", ".so") is None


@needs_modes
@pytest.mark.parametrize(
    "expose",
    [
        lambda path: path.chmod(0o666),
        lambda path: path.chmod(0o620),
        lambda path: path.rename(path.with_name("moved")) and path.symlink_to("moved"),
    ],
)
def test_a_file_that_others_could_change_is_built_again(
    folder: Path, expose: Callable[[Path], object]
) -> None:
    """A digest says what a file held when it was read, not when it is loaded."""
    path = build_once("k", ".so", write)
    expose(path)
    assert find_built("k", ".so") is None
    assert build_once("k", ".so", write) == path
    assert path.stat().st_mode & 0o777 == 0o600


@as_root
def test_a_file_of_another_user_is_built_again(folder: Path) -> None:
    os.chown(build_once("k", ".so", write), 12345, 12345)
    assert find_built("k", ".so") is None


def test_a_lock_that_a_dead_machine_left_is_not_waited_for_for_ever(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_cache, "_LONGEST_WAIT", 0.05)
    find_built("k", ".so")
    with (
        file_lock(folder / "k.lock"),
        pytest.warns(MixcoderWarning, match=r"another process has held .*k\.lock for 0 s"),
    ):
        path = build_once("k", ".so", write)
    assert path.parent == folder
    assert sorted(other.suffix for other in folder.iterdir()) == [".lock", ".so"]


def test_what_another_process_built_meanwhile_stays(folder: Path) -> None:
    """It may be loaded already: on a network file system, a file that is replaced is gone for its readers."""

    def build(path: Path) -> None:
        write(path)
        build_cache._build(folder, "k", ".so", write)

    path = build_once("k", ".so", build)
    assert path.read_bytes() == CONTENT
    first = path.stat().st_ino
    build_cache._build(folder, "k", ".so", write)
    assert path.stat().st_ino == first


INFORMATION = """\
processor : 0
vendor_id : GenuineIntel
cpu family : 6
model : 143
stepping : 8
cpu MHz : 2000.000
flags : fpu sse2 avx2 avx512f

processor : 1
cpu MHz : 1999.999
"""
CHANGED = {
    "flags : fpu sse2 avx2 avx512f": "flags : fpu sse2 avx2",  # masked by a hypervisor
    "model : 143": "model : 85",
    "GenuineIntel": "AuthenticAMD",
}


@pytest.mark.parametrize("line", list(CHANGED))
def test_machines_that_share_a_home_folder_share_what_both_can_run(
    line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key(information: str) -> str:
        monkeypatch.setattr(Path, "read_text", lambda path, **settings: information)
        build_cache._processor.cache_clear()
        return cache_key("fact")

    try:
        assert key(INFORMATION) == key(INFORMATION.replace("2000", "1234"))
        assert key(INFORMATION) != key(INFORMATION.replace(line, CHANGED[line]))
    finally:
        build_cache._processor.cache_clear()


@as_root
def test_a_folder_of_another_user_is_not_used(folder: Path) -> None:
    build_once("foreign", ".so", write)
    os.chown(folder, 12345, 12345)
    with pytest.warns(MixcoderWarning, match="belongs to another user"):
        assert find_built("foreign", ".so") is None


def test_where_no_folder_can_be_made_another_is_used(folder: Path) -> None:
    folder.parent.parent.write_text("a file")
    with pytest.warns(
        MixcoderWarning, match="compiled code is kept for this process alone: .* cannot be used"
    ):
        assert build_once("k", ".so", write).read_bytes() == CONTENT


@slow
def test_the_key_holds_compiler_and_facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def compiler(name: str, version: str) -> str:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\necho {version}\n")
        path.chmod(0o755)
        return str(path)

    keys = set()
    commands = compiler("c++", "1"), f"{compiler('c++', '1')} -m32", compiler("other", "1"), "/nowhere/c++"
    for command in commands:
        monkeypatch.setenv("CXX", command)
        keys |= {cache_key("one"), cache_key("other")}
    assert len(keys) == 2 * len(commands)
    monkeypatch.setenv("CXX", commands[0])
    assert cache_key("one") in keys
    newer = tmp_path / "newer"
    newer.mkdir()
    compiler("newer/c++", "2")
    monkeypatch.setenv("CXX", "c++")
    versions = set()
    for folder in (tmp_path, newer):
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        versions.add(run_key())
    assert len(versions) == 2


def run_key() -> str:
    """A key as another process makes it."""
    code = "from mixcoder.backends.build_cache import cache_key; print(cache_key(1))"
    return subprocess.run([sys.executable, "-c", code], text=True, check=True, capture_output=True).stdout


@slow
@needs_compiler
def test_a_truncated_library_is_compiled_again(folder: Path) -> None:
    """The loader would map it, and touch pages that the file does not have."""
    code = "from mixcoder.backends.native.build import load_kernels; load_kernels()"
    for size in (40_000, 4096, 0):
        subprocess.run([sys.executable, "-c", code], check=True)
        [library] = folder.glob("*.so")
        os.truncate(library, size)
    subprocess.run([sys.executable, "-c", code], check=True)


def test_inductor_works_in_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    with warnings.catch_warnings(action="ignore"), _private_inductor():
        within = Path(cache_dir())
        assert within.stat().st_mode & 0o777 == 0o700
        assert not within.name.startswith("torchinductor")
    assert not within.exists()
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ
