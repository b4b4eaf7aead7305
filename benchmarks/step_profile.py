"""Where the time of a training step goes, on one thread.

    python -m benchmarks.step_profile [--models "cnn k1,cnnf k3"] [--steps 50]

    forward and backward of 64 images, as a sweep's worker computes them
      ├─ gemms          matrix products, of the library or by our own kernels
      ├─ convolutions   of the library, or by our own kernels, forward and backward
      ├─ passes         all between them: activations, sums, transposes
      └─ other          memory, calls

Profiling takes a little time itself; a step without it is timed beside it. A native step is a list of
operations: each is timed by itself.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from unittest import mock

import torch
import torch._inductor.config
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.contest import BATCH
from benchmarks.throughput import MODELS, create_network
from mixcoder.backends.backend import choose_backend
from mixcoder.backends.inductor.inductor_backend import compiled_gradients
from mixcoder.backends.native.native_step import NativeStep
from mixcoder.backends.parameters import FlatParameters
from mixcoder.backends.step import Gradients, StepSpec, UnsupportedError
from mixcoder.models.cost import count_madds
from mixcoder.training.recipe import Recipe

WARMUP_STEPS = 10
KINDS: dict[str, tuple[str, ...]] = {
    "gemms": ("mm_out", "aten::mm", "aten::addmm", "aten::bmm"),
    "convolutions": ("convolution",),
    "passes": ("graph_",),
}
"""Substrings by which the profiler's names belong to a kind."""
NATIVE_KINDS = {
    **dict.fromkeys(("gemm", "gemm_bf16", "gemm_batch", "gemm_batch_bf16"), "gemms"),
    **dict.fromkeys(("convolve", "correlate", "depthwise", "depthwise_correlate"), "convolutions"),
    **dict.fromkeys(("convolve_field", "convolve_field_bf16"), "convolutions"),
    **dict.fromkeys(("correlate_field", "correlate_field_bf16"), "convolutions"),
}
"""Of the native operations that are more than a pass."""


def step_spec(model: str) -> StepSpec:
    """Returns the step of a batch, in the precision that a run would choose."""
    network = create_network(model).train()
    recipe = Recipe(inputs=1, batch_size=BATCH)
    choice = choose_backend(recipe.workload(network, count_madds(network), 1, torch.device("cpu")))
    return StepSpec(network, FlatParameters(network), "mse", batch(), precision=choice.precision)


def native_shares(step: NativeStep, images: Tensor, steps: int) -> dict[str, float]:
    """Returns the seconds of a native step by kind."""
    found = dict.fromkeys((*KINDS, "other"), 0.0)
    for _ in range(steps):
        for name, taken in step.time_operations(images):
            found[NATIVE_KINDS.get(name, "passes")] += taken / steps
    return found


def profiled_gradients(spec: StepSpec) -> Gradients:
    """Returns compiled gradients whose kernels the profiler sees."""
    with (
        torch._inductor.config.patch({"cpp.enable_kernel_profile": True}),
        tempfile.TemporaryDirectory() as own,
        mock.patch.dict(os.environ, XDG_CACHE_HOME=own),  # the cache does not know these two apart
    ):
        return compiled_gradients(spec)


def batch() -> Tensor:
    """Returns images (B, 1, 28, 28) uint8 of noise."""
    return torch.randint(0, 256, (BATCH, 1, 28, 28), dtype=torch.uint8)


def seconds(step: Callable[[], object], steps: int) -> float:
    """Returns the mean seconds of a step."""
    for _ in range(WARMUP_STEPS):
        step()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return (time.perf_counter() - start) / steps


def shares(step: Callable[[], object], steps: int) -> dict[str, float]:
    """Returns the seconds of a step by kind."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(steps):
            step()
    found = dict.fromkeys((*KINDS, "other"), 0.0)
    for event in profiler.key_averages():
        kinds = (kind for kind, parts in KINDS.items() if any(part in event.key for part in parts))
        found[next(kinds, "other")] += event.self_cpu_time_total / 1e6 / steps
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--steps", type=int, default=50)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| model | steps | step (ms) | gemms | convolutions | passes | other |")
    print("|---|---|---:|---:|---:|---:|---:|")
    images = batch()
    for model in options.models.split(","):
        spec = step_spec(model)
        try:
            step = NativeStep(spec)
        except UnsupportedError:
            plain = compiled_gradients(spec)
            backend, whole = "compiled", seconds(partial(plain, images), options.steps)
            found = shares(partial(profiled_gradients(spec), images), options.steps)
        else:
            backend, whole = "native", seconds(partial(step, images), options.steps)
            found = native_shares(step, images, options.steps)
        percentages = " | ".join(f"{found[kind] / sum(found.values()):.0%}" for kind in (*KINDS, "other"))
        precision = str(spec.precision).removeprefix("torch.")
        print(f"| {model} | {backend}, {precision} | {whole * 1e3:.2f} | {percentages} |", flush=True)


if __name__ == "__main__":
    main()
