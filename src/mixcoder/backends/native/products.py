"""Which gemms the kernels call: those of the BLAS in torch's library, or their own.

| operands | processor | gemms | because |
|---|---|---|---|
| float32 | x86-64, not of Intel | own | MKL uses its best instructions on Intel's processors alone |
| float32 | any other | BLAS | its kernels are made for each processor |
| bfloat16 | AMX tiles | BLAS | the kernels do not use tiles |
| bfloat16 | any other | own | MKL converts the operands to float32 |

Where the BLAS cannot be called, the kernels' own gemms stand in. The choice is a rule, not a measurement: the
same run gives the same bits each time on one machine. `python -m benchmarks.gemms` prints the speed of both.
"""

from __future__ import annotations

import ctypes
import platform
from contextlib import suppress
from dataclasses import dataclass

import torch

from mixcoder.torch_private import blas_gemm

PRECISIONS = (torch.float32, torch.bfloat16)


@dataclass(frozen=True)
class Processor:
    """What the choice of gemms follows from.

    Attributes:
        is_rival: of x86-64, but not made by Intel.
        has_tiles: with AMX tiles for bfloat16.
    """

    is_rival: bool
    has_tiles: bool


def describe_processor() -> Processor:
    """Returns the processor of this machine."""
    capabilities = torch.cpu.get_capabilities()
    is_rival = platform.machine() in ("x86_64", "AMD64") and "Intel" not in capabilities.get("cpu_name", "")
    return Processor(is_rival, bool(capabilities.get("amx_bf16")))


def set_gemms(kernels: ctypes.CDLL) -> None:
    """Sets which gemms loaded kernels call for each precision."""
    processor = describe_processor()
    float32, bfloat16 = (find_blas(precision, processor) for precision in PRECISIONS)
    kernels.mixcoder_set_blas(float32, bfloat16)


def find_blas(precision: torch.dtype, processor: Processor) -> ctypes.c_void_p:
    """Returns the address of the BLAS's gemm; null where the kernels' own is to be called."""
    if is_own_faster(precision, processor):
        return ctypes.c_void_p()
    with suppress(AttributeError, OSError):
        return ctypes.cast(blas_gemm(precision), ctypes.c_void_p)
    return ctypes.c_void_p()


def is_own_faster(precision: torch.dtype, processor: Processor) -> bool:
    """Returns whether the kernels' own gemm is faster than that of the BLAS."""
    return processor.is_rival if precision == torch.float32 else not processor.has_tiles
