"""`kernels.cpp` as machine code for this processor, compiled once and kept in the user's cache."""

from __future__ import annotations

import ctypes
import subprocess
from functools import cache, partial
from pathlib import Path

import torch

from mixcoder.backends.build_cache import build_once, cache_key, compiler_command

_FLAGS = ["-std=c++17", "-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-shared", "-fPIC"]
_SOURCE = Path(__file__).with_name("kernels.cpp")


@cache
def load_kernels(precision: torch.dtype) -> ctypes.CDLL:
    """The kernels, ready to run; compiled now where the cache has none for this processor.

    Raises:
        Exception: there is no compiler, it refuses, or torch brings no BLAS that can be called for products
            in this precision.
    """
    command = [*compiler_command(), *_FLAGS]
    key = cache_key("kernels", command, _SOURCE.read_text(encoding="utf-8"))
    path = build_once(key, ".so", partial(_compile, command))
    kernels = ctypes.CDLL(str(path))
    blas = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
    if precision == torch.float32:
        kernels.mixcoder_set_product(ctypes.cast(blas.sgemm_, ctypes.c_void_p))
    else:
        kernels.mixcoder_set_rounded_product(ctypes.cast(blas.gemm_bf16bf16f32_, ctypes.c_void_p))
    return kernels


def _compile(command: list[str], path: Path) -> None:
    """Writes the library."""
    ended = subprocess.run(  # noqa: S603 - the user's own compiler
        [*command, "-o", str(path), str(_SOURCE)], capture_output=True, text=True, check=False
    )
    if ended.returncode:
        raise RuntimeError(f"{command[0]} does not compile the kernels: {ended.stderr.strip()[:500]}")
