"""Where the time of a training step goes, on one thread.

    python -m benchmarks.step_profile [--models "cnn k1,cnnf k3"] [--steps 50]

    forward and backward of 64 images, as a sweep's worker computes them
      ├─ products       matrix products of the library
      ├─ convolutions   of the library, or of our own kernels, forward and backward
      ├─ passes         all between them: activations, sums, moving numbers
      └─ other          memory, calls

To note when each begins takes a little itself; a step without these notes is timed beside it. A native step
is a list of operations: each is timed by itself.
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

from benchmarks.throughput import BATCH, MODELS, create_network
from mixcoder.backends.backend import choose_execution
from mixcoder.backends.gradients import Gradients, compiled_gradients
from mixcoder.backends.native.layers import UnsupportedError
from mixcoder.backends.native.native_step import NativeStep
from mixcoder.backends.parameters import FlatParameters
from mixcoder.training.recipe import Recipe

WARMUP_STEPS = 10
KINDS: dict[str, tuple[str, ...]] = {
    "products": ("mm_out", "aten::mm", "aten::addmm", "aten::bmm"),
    "convolutions": ("convolution",),
    "passes": ("graph_",),
}
"""Parts of the names by which the profiler knows what belongs to a kind."""
NATIVE_KINDS = {
    **dict.fromkeys(("product", "product_rounded"), "products"),
    **dict.fromkeys(("convolve", "correlate"), "convolutions"),
}
"""Of the operations that are more than a pass."""


def native_step(model: str) -> tuple[NativeStep, str] | None:
    """The step by operations of our own, for a model whose layers have them, and its precision."""
    network = create_network(model).train()
    chosen = choose_execution(network, Recipe(inputs=1, batch_size=BATCH), 1, torch.device("cpu"))
    try:
        step = NativeStep(network, FlatParameters(network), "mse", chosen.precision, BATCH)
    except UnsupportedError:
        return None
    return step, str(chosen.precision).removeprefix("torch.")


def native_shares(step: NativeStep, images: Tensor, steps: int) -> dict[str, float]:
    """Seconds of a native step by kind."""
    found = dict.fromkeys((*KINDS, "other"), 0.0)
    for _ in range(steps):
        for name, taken in step.timed(images):
            found[NATIVE_KINDS.get(name, "passes")] += taken / steps
    return found


def noted_gradients(model: str) -> tuple[Gradients, Gradients, str]:
    """Gradients whose parts the profiler sees, the same without that, and their precision."""
    network = create_network(model).train()
    parameters = FlatParameters(network)
    device = torch.device("cpu")
    precision = choose_execution(network, Recipe(inputs=1, batch_size=BATCH), 1, device).precision

    def compiled() -> Gradients:
        return compiled_gradients(network, parameters, "mse", precision, batch())

    plain = compiled()
    with (
        torch._inductor.config.patch({"cpp.enable_kernel_profile": True}),
        tempfile.TemporaryDirectory() as own,
        mock.patch.dict(os.environ, XDG_CACHE_HOME=own),  # the cache does not know these two apart
    ):
        noted = compiled()
    return noted, plain, str(precision).removeprefix("torch.")


def batch() -> Tensor:
    """Images (B, 1, 28, 28) uint8 of noise."""
    return torch.randint(0, 256, (BATCH, 1, 28, 28), dtype=torch.uint8)


def seconds(step: Callable[[], object], steps: int) -> float:
    """The mean time of a step."""
    for _ in range(WARMUP_STEPS):
        step()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return (time.perf_counter() - start) / steps


def shares(step: Callable[[], object], steps: int) -> dict[str, float]:
    """Seconds of a step by kind."""
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
    print("| model | steps | step (ms) | products | convolutions | passes | other |")
    print("|---|---|---:|---:|---:|---:|---:|")
    images = batch()
    for model in options.models.split(","):
        if native := native_step(model):
            step, precision = native
            way, whole = f"native, {precision}", seconds(partial(step, images), options.steps)
            found = native_shares(step, images, options.steps)
        else:
            noted, plain, precision = noted_gradients(model)
            way, whole = f"compiled, {precision}", seconds(partial(plain, images), options.steps)
            found = shares(partial(noted, images), options.steps)
        parts = " | ".join(f"{found[kind] / sum(found.values()):.0%}" for kind in (*KINDS, "other"))
        print(f"| {model} | {way} | {whole * 1e3:.2f} | {parts} |", flush=True)


if __name__ == "__main__":
    main()
