"""Speed of the kernels' own gemms and of the BLAS's, and what bfloat16 gains in native steps, on one thread.

    python -m benchmarks.gemms

The first table is of the shapes in the steps of the article's Mixers: GFLOP/s with operands in the cache,
those of the choice for this processor in bold. The second is of whole steps of 64 images, for Mixers of more
and more multiply-adds. The processor's time is measured, the least of many.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks.contest import BATCH, LEARNING_RATE
from mixcoder.backends.backend import BackendChoice, build_step
from mixcoder.backends.native import products
from mixcoder.backends.native.build import load_kernels
from mixcoder.backends.native.native_backend import NATIVE
from mixcoder.backends.native.program import Program
from mixcoder.backends.parameters import FlatParameters
from mixcoder.backends.step import StepSpec
from mixcoder.backends.vector_adamw import VectorAdamW
from mixcoder.models import create_model
from mixcoder.models.cost import count_madds
from mixcoder.torch_private import blas_gemm

REPETITIONS = 12
FLOATING_POINT_OPERATIONS = 2e8
"""Of a repetition: a millisecond or two."""
SHAPES: dict[str, list[tuple[int, int, int]]] = {
    "": [(1024, 64, 64), (1024, 64, 49), (16, 4096, 16), (448, 128, 128), (192, 256, 256), (64, 1024, 1024)],
    "b": [(1024, 64, 64), (1024, 49, 64), (1024, 16, 64), (192, 256, 256), (32, 1024, 1024)],
    "a": [(64, 64, 1024), (64, 49, 1024), (16, 4096, 16), (256, 256, 192), (128, 1024, 64)],
}
"""(m, n, k) by which of a and b is transposed."""
MIXERS: list[dict[str, Any]] = [
    *({"mixer": "cnn", "hidden_channels": [size] * 2} for size in (8, 16, 32, 64, 128, 256)),
    {"mixer": "cnnf", "hidden_channels": [64, 64, 64, 16], "kernel_size": 3},
    {"mixer": "cnn2df", "hidden_channels": [64, 64, 64, 16], "kernel_size": 7},
    {"mixer": "mlp", "hidden_channels": [64, 64, 64, 16]},
]


def least_seconds(run: Callable[[], object], repetitions: int = REPETITIONS) -> float:
    """Returns the processor's seconds of the fastest of some calls, after one that does not count."""
    run()
    seconds = []
    for _ in range(repetitions):
        start = time.thread_time()
        run()
        seconds.append(time.thread_time() - start)
    return min(seconds)


def gemm_rate(precision: torch.dtype, sizes: tuple[int, int, int], transposed: str) -> float:
    """Returns GFLOP/s of the gemm that the kernels call now."""
    m, n, k = sizes
    a, b, c = torch.ones(m * k, dtype=precision), torch.ones(k * n, dtype=precision), torch.zeros(m * n)
    count = 1 + int(FLOATING_POINT_OPERATIONS / (2 * m * n * k))
    program = Program(precision)
    for _ in range(count):
        program.gemm((a.data_ptr(), b.data_ptr()), c.data_ptr(), sizes, transposed)
    operations, kernels = program.operations(), load_kernels()
    address = ctypes.c_void_p(operations.ctypes.data)
    seconds = least_seconds(lambda: kernels.mixcoder_run(address, len(operations), None))
    return 2 * m * n * k * count / seconds / 1e9


def gemm_rates(sizes: tuple[int, int, int], transposed: str) -> list[str]:
    """Returns GFLOP/s of the BLAS and of the kernels' own, in each precision; those chosen here in bold."""
    kernels, cells = load_kernels(), []
    processor = products.describe_processor()
    for precision in products.PRECISIONS:
        is_own_chosen = products.is_own_faster(precision, processor)
        for is_own in (False, True):
            address = None if is_own else ctypes.cast(blas_gemm(precision), ctypes.c_void_p)
            kernels.mixcoder_set_blas(address, address)
            rate = f"{gemm_rate(precision, sizes, transposed):.0f}"
            cells.append(f"**{rate}**" if is_own == is_own_chosen else rate)
    products.set_gemms(kernels)
    return cells


def step_seconds(arguments: dict[str, Any], precision: torch.dtype) -> tuple[int, float]:
    """Returns the multiply-adds of an image, and the seconds of a native step."""
    torch.manual_seed(0)
    places = list(range(1, len(arguments["hidden_channels"]) + 1))
    rest = {"patch_size": 7, "latent_dim": 16, "mixer_at": places, "kernel_size": 1, **arguments}
    model = create_model("mixer", image_shape=(1, 28, 28), **rest).train()
    images = torch.randint(0, 256, (BATCH, 1, 28, 28), dtype=torch.uint8)
    flat = FlatParameters(model)
    spec = StepSpec(model, flat, "mse", images, [VectorAdamW(flat.vector, LEARNING_RATE)])
    step, _ = build_step(spec, BackendChoice(NATIVE, precision, fallbacks=()))
    return count_madds(model), least_seconds(lambda: step(images), 100)


def print_row(cells: Sequence[object]) -> None:
    """Prints a row of a table."""
    print("|", " | ".join(map(str, cells)), "|", flush=True)


def main() -> None:
    torch.set_num_threads(1)
    print_row(["transposed", "m, n, k", "BLAS float32", "own float32", "BLAS bfloat16", "own bfloat16"])
    print("|---|---|---:|---:|---:|---:|")
    for transposed, shapes in SHAPES.items():
        for sizes in shapes:
            print_row([transposed or "none", ", ".join(map(str, sizes)), *gemm_rates(sizes, transposed)])
    print()
    print_row(["mixer", "million multiply-adds", "float32 (ms)", "bfloat16 (ms)", "times as fast"])
    print("|---|---:|---:|---:|---:|")
    for arguments in MIXERS:
        (madds, float32), (_, bfloat16) = (step_seconds(arguments, p) for p in products.PRECISIONS)
        name = f"{arguments['mixer']} {arguments['hidden_channels']}"
        numbers = [f"{madds / 1e6:.2f}", f"{float32 * 1e3:.3f}", f"{bfloat16 * 1e3:.3f}"]
        print_row([name, *numbers, f"{float32 / bfloat16:.2f}"])


if __name__ == "__main__":
    main()
