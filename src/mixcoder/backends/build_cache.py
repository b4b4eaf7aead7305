"""The build cache: compiled code, kept for later runs in <user's cache>/compiled.

    facts that the code follows from ─▶ key ─▶ <key>-<digest of the content>.<kind> ─▶ checked ─▶ path
                                                 └─ not there, or damaged: built now ─▶ fsync ─▶ renamed

Files from here are loaded into this process. The folder is therefore the user's own, nobody else can write to
it, nor to the folders that it lies in, nor to the file; where others can, a warning says so and a temporary
folder of this process takes its place. Machines that share a home folder share the cache: processors that
differ have other keys, and a lock that a dead machine has left is waited for once, not for ever.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import platform
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path

import torch
from filelock import Timeout

from mixcoder.errors import CacheError, MixcoderWarning
from mixcoder.io.atomic_file import write_atomically
from mixcoder.io.file_lock import file_lock
from mixcoder.io.user_folders import cache_folder

_DIGITS = 20
"""Hexadecimal digits of a key and of a digest."""
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
_UNMAPPED_USER = 65534
"""The owner that a container shows for folders of users whom it does not know, such as the host's root."""
_OWN_FOLDER = "set XDG_CACHE_HOME to the path of a folder of your own"
_LONGEST_WAIT = 180.0
"""Seconds to wait for another process that builds the same file: a few times as long as most of a minute,
which the slowest builds take. A machine that died may hold its lock for ever."""
_PROCESSOR_LINES = ("vendor_id", "cpu family", "model", "stepping", "flags", "CPU", "Features")
"""Beginnings of the lines of /proc/cpuinfo on a processor's instructions, of x86-64 and ARM."""


def cache_key(*facts: object) -> str:
    """Returns the key of code that follows from these facts, torch, the compiler and the processor."""
    return _digest(
        repr((torch.__version__, _compiler(tuple(compiler_command())), _processor(), facts)).encode()
    )


def compiler_command() -> list[str]:
    """Returns the command of the C++ compiler that torch uses too: `$CXX`, or the system's own."""
    default = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    return shlex.split(os.environ.get("CXX") or default)


def find_built(key: str, kind: str) -> Path | None:
    """Returns the file of a key and kind, such as ".so"; None where there is no undamaged one."""
    return _find(_folder(), key, kind)


def build_once(key: str, kind: str, build: Callable[[Path], None]) -> Path:
    """Returns the file of a key and kind, built now where there is no undamaged one.

    Args:
        key: as `cache_key` makes it.
        kind: suffix of the file.
        build: writes the file to a path, whose folder holds nothing else.

    Raises:
        Exception: whatever `build` raises.
    """
    found = find_built(key, kind)
    if found:
        return found
    folder = _writable_folder()
    _remove_abandoned(folder)
    with _alone(folder / f"{key}.lock"):
        return _find(folder, key, kind) or _build(folder, key, kind, build)


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Context in which no other process builds the same file, unless that has taken too long.

    Two that build it at a time do no harm: each works in a folder of its own, and files appear whole.
    """
    with ExitStack() as held:
        try:
            held.enter_context(file_lock(lock, _LONGEST_WAIT))
        except Timeout:
            warnings.warn(
                f"another process has held {lock} for {_LONGEST_WAIT:.0f} s; its code is compiled here too",
                MixcoderWarning,
                stacklevel=2,
            )
        yield


def _find(folder: Path, key: str, kind: str) -> Path | None:
    for path in folder.glob(f"{key}-*{kind}"):
        with suppress(OSError):
            if _is_own(path) and path.name == _name(key, path.read_bytes(), kind):
                return path
            path.unlink()  # damaged, or others could damage it
    return None


def _is_own(path: Path) -> bool:
    """Returns whether a path is a file of this user's that nobody else can write to."""
    if not hasattr(os, "geteuid"):
        return True
    status = path.lstat()
    return (
        stat.S_ISREG(status.st_mode)
        and status.st_uid == os.geteuid()
        and not status.st_mode & _OTHERS_MAY_WRITE
    )


def _build(folder: Path, key: str, kind: str, build: Callable[[Path], None]) -> Path:
    work = Path(tempfile.mkdtemp(prefix=f".{key}-", suffix=".part", dir=folder))
    try:
        build(work / f"{key}{kind}")
        content = (work / f"{key}{kind}").read_bytes()
    finally:
        shutil.rmtree(work, ignore_errors=True)
    path = folder / _name(key, content, kind)
    if not _find(folder, key, kind):  # another process may have built and loaded it: then that stays
        write_atomically(path, content)
        with suppress(OSError):  # a file system on which all files have one mode
            path.chmod(0o600)  # whatever the umask
    return path


def _name(key: str, content: bytes, kind: str) -> str:
    return f"{key}-{_digest(content)}{kind}"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:_DIGITS]


def _remove_abandoned(folder: Path) -> None:
    """Removes the unfinished files of processes that were killed while they built."""
    for part in folder.glob(".*.part"):
        key = part.name[1:].partition("-")[0]
        with suppress(Timeout), file_lock(folder / f"{key}.lock", timeout=0):
            if part.is_dir():
                shutil.rmtree(part, ignore_errors=True)
            else:
                part.unlink(missing_ok=True)


def _folder() -> Path:
    """Returns the folder of the build cache, created now where it is missing."""
    try:
        folder = cache_folder() / "compiled"
    except CacheError as error:
        return _temporary_folder_because(str(error))
    try:
        _create(folder)
        folder = folder.resolve()
        objection = _objection(folder)
    except OSError as error:
        objection = f"cannot be used: {(error.strerror or str(error)).lower()}"
    return _temporary_folder_because(f"{folder} {objection}") if objection else folder


def _create(folder: Path) -> None:
    """Creates a folder and those above it where they are missing, for this user alone whatever the umask."""
    for path in reversed([folder, *folder.parents]):
        if not path.is_dir():
            path.mkdir(mode=0o700, exist_ok=True)


def _writable_folder() -> Path:
    folder = _folder()
    return folder if os.access(folder, os.W_OK) else _temporary_folder_because(f"{folder} cannot be written")


def _objection(folder: Path) -> str:
    """Returns why the code in a folder cannot be trusted; empty where it can."""
    if not hasattr(os, "geteuid"):  # Windows, where a user's folders are the user's own
        return ""
    status = folder.stat()
    if status.st_uid != os.geteuid():
        return f"belongs to another user; {_OWN_FOLDER}"
    if status.st_mode & _OTHERS_MAY_WRITE:
        return "can be written by other users; delete it, and it will be made anew"
    exposed = next((parent for parent in folder.parents if _others_can_rename_in(parent)), None)
    return f"lies in {exposed}, where other users can rename it; {_OWN_FOLDER}" if exposed else ""


def _others_can_rename_in(folder: Path) -> bool:
    """Returns whether another user but root can put something else in the place of an entry of a folder."""
    status = folder.stat()
    if status.st_uid not in (os.geteuid(), 0, _UNMAPPED_USER):
        return True
    if status.st_mode & stat.S_ISVTX:  # as of /tmp: entries are renamed by their owners alone
        return False
    is_groups = status.st_mode & stat.S_IWGRP and not _is_private_group(status.st_gid)
    return bool(is_groups or status.st_mode & stat.S_IWOTH)


def _is_private_group(group: int) -> bool:
    """Returns whether a group is this user's alone, as systems with the umask 002 make one for each user."""
    import grp  # not on Windows
    import pwd

    try:
        user, entry = pwd.getpwuid(os.geteuid()), grp.getgrgid(group)
    except KeyError:  # neither is known here, as in a container
        return False
    return entry.gr_name == user.pw_name and not {*entry.gr_mem} - {user.pw_name}


@cache
def _temporary_folder_because(reason: str) -> Path:
    """Returns the temporary folder, and warns once why it is used."""
    warnings.warn(f"compiled code is kept for this process alone: {reason}", MixcoderWarning, stacklevel=2)
    return _temporary_folder()


@cache
def _temporary_folder() -> Path:
    """Returns a folder of this process alone, removed at its end."""
    folder = tempfile.mkdtemp(prefix="mixcoder-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@cache
def _compiler(command: tuple[str, ...]) -> str:
    """Returns the compiler that a command calls, and its version; empty where there is none."""
    path = shutil.which(command[0]) if command else None
    if path is None:
        return ""
    ended = subprocess.run(  # noqa: S603 - the user's own compiler
        [*command, "--version"], capture_output=True, stdin=subprocess.DEVNULL, check=False
    )
    return f"{Path(path).resolve()} {command[1:]} {ended.stdout!r} {ended.stderr!r}"


@cache
def _processor() -> str:
    """Returns the processor and its instructions, as far as torch may use them."""
    capability = torch.backends.cpu.get_cpu_capability()
    known = platform.machine(), platform.processor(), capability, torch.cpu.get_capabilities()
    try:
        first, _, _ = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").partition("\n\n")
    except OSError:  # not on Linux
        first = ""
    return repr((known, [line for line in first.splitlines() if line.startswith(_PROCESSOR_LINES)]))
