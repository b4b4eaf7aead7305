"""The kernels as machine code for this processor, compiled once and kept in the user's cache."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from mixcoder.backends.build_cache import build_once, cache_key, compiler_command
from mixcoder.backends.native.codes import cpp_header
from mixcoder.backends.native.products import set_gemms

_FLAGS = ["-std=c++17", "-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fPIC"]
_FOLDER = Path(__file__).with_name("kernels")


@cache
def load_kernels() -> ctypes.CDLL:
    """Loads the kernels; compiles them now where the cache has none for this processor.

    Raises:
        Exception: there is no compiler, or it refuses.
    """
    key = cache_key("kernels", _command(), cpp_header(), _sources())
    kernels = ctypes.CDLL(str(build_once(key, ".so", _compile)))
    set_gemms(kernels)
    return kernels


def _command() -> list[str]:
    return [*compiler_command(), *_FLAGS]


def _sources() -> str:
    """Returns the text of all source files, by which the built library is known."""
    files = sorted(path for path in _FOLDER.iterdir() if path.suffix in (".cpp", ".h"))
    return "".join(f"// {path.name}\n{path.read_text(encoding='utf-8')}" for path in files)


def _compile(path: Path) -> None:
    """Writes the library to `path`, and the generated header and the units' code beside it."""
    path.with_name("codes.h").write_text(cpp_header(), encoding="utf-8")
    units = {unit: path.with_name(f"{unit.stem}.o") for unit in sorted(_FOLDER.glob("*.cpp"))}
    commands = [
        [*_command(), f"-I{path.parent}", "-c", str(unit), "-o", str(made)] for unit, made in units.items()
    ]
    _run_all(commands)  # side by side
    _run_all([[*_command(), "-shared", *map(str, units.values()), "-o", str(path)]])


def _run_all(commands: Sequence[Sequence[str]]) -> None:
    """Runs compilers side by side.

    Raises:
        RuntimeError: one refuses; says why.
    """
    with ThreadPoolExecutor() as pool:
        for command, ended in zip(commands, pool.map(_run, commands), strict=True):
            if ended.returncode:
                reason = ended.stderr.strip()[:500]
                raise RuntimeError(f"{command[0]} does not compile the kernels: {reason}")


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - the user's compiler
