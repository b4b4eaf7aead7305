"""The kernels as machine code for this processor, compiled once and kept in the user's cache."""

from __future__ import annotations

import ctypes
import subprocess
from functools import cache
from pathlib import Path

from mixcoder.backends.build_cache import build_once, cache_key, compiler_command
from mixcoder.backends.native.codes import cpp_header
from mixcoder.backends.native.products import set_gemms

_FLAGS = ["-std=c++17", "-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-shared", "-fPIC"]
_FOLDER = Path(__file__).with_name("kernels")
_SOURCE = _FOLDER / "kernels.cpp"


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
    """Writes the library to `path`, and the generated header beside it."""
    path.with_name("codes.h").write_text(cpp_header(), encoding="utf-8")
    command = [*_command(), f"-I{path.parent}", "-o", str(path), str(_SOURCE)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - the user's compiler
    if ended.returncode:
        raise RuntimeError(f"{command[0]} does not compile the kernels: {ended.stderr.strip()[:500]}")
