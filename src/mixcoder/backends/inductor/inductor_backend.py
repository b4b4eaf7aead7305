"""The backends of compiled steps: one graph for a whole batch, or for each shard of it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from mixcoder.backends.eager import eager_gradients
from mixcoder.backends.fingerprint import fingerprint, python_state
from mixcoder.backends.inductor.compiled_graph import load_graph
from mixcoder.backends.inductor.package_runner import PackageRunner
from mixcoder.backends.inductor.package_trial import check_package
from mixcoder.backends.inductor.step_graph import compile_step
from mixcoder.backends.self_check import as_unsupported, check_close, check_pure, check_rounding
from mixcoder.backends.step import Gradients, StepSpec, TrainingStep, UnsupportedError, apply_optimizers
from mixcoder.backends.threads import for_each_slice, one_thread, run_in_parallel
from mixcoder.backends.workload import Workload, library_bfloat16_pays_from, shards_of
from mixcoder.models.summary import count_parameters

_PAYS_FROM = 4e11
"""Multiply-adds of a whole run, from which compiling saves more time than it takes."""
_SHARDS_PAY_BELOW = 4e6
"""Multiply-adds of an image, above which threads that share an operation are faster than shards."""
_SHARDS_PAY_BELOW_PARAMETERS = 5e5
"""Parameters, above which reading them for each shard and adding up gradients cost more than shards save."""

_ROUNDING = 1e-5
"""Part of the norm of gradients and loss, by which two equal computations of threads or a GPU may differ."""


class Inductor:
    """A backend of one compiled graph for forward and backward of a whole batch."""

    name = "compiled"
    failure = "they could not be compiled"

    def pays(self, workload: Workload) -> bool:
        """Returns whether compiling saves more time than it takes."""
        return workload.pays_from(_PAYS_FROM)

    def supports(self, workload: Workload) -> str | None:
        """Returns None: only `build` finds out."""
        return None

    def shards(self, workload: Workload) -> int:
        """Returns 1: operations of the graph use all threads."""
        return 1

    def bfloat16_pays_from(self, device: torch.device) -> float:
        """Returns the multiply-adds of an image, from which torch's library computes faster in bfloat16."""
        return library_bfloat16_pays_from(device)

    def build(self, spec: StepSpec) -> TrainingStep:
        """Returns the step.

        Raises:
            UnsupportedError: there is no compiler, or it cannot compile the model; says why.
        """
        return apply_optimizers(compiled_gradients(spec), spec)


class ShardedInductor(Inductor):
    """A backend of one compiled graph, run on shards of a batch side by side."""

    def pays(self, workload: Workload) -> bool:
        """Returns whether compiling pays, and shards do: for small models."""
        return super().pays(workload) and self.shards(workload) > 1

    def shards(self, workload: Workload) -> int:
        """Returns one for each thread, where a model is so small that shards pay."""
        is_small = (
            workload.madds < _SHARDS_PAY_BELOW
            and count_parameters(workload.model) < _SHARDS_PAY_BELOW_PARAMETERS
        )
        return shards_of(workload.batch_size) if workload.device.type == "cpu" and is_small else 1

    def build(self, spec: StepSpec) -> TrainingStep:
        """Returns the step.

        Raises:
            UnsupportedError: there is no compiler, it cannot compile the model, or the loss of a batch is not
                the mean of the losses of its shards.
        """
        return apply_optimizers(sharded_gradients(spec), spec)


INDUCTOR, SHARDED_INDUCTOR = Inductor(), ShardedInductor()


def compiled_gradients(spec: StepSpec) -> Gradients:
    """Returns a function from a batch to gradients and loss, compiled now.

    Raises:
        UnsupportedError: it cannot be compiled; says why.
    """
    check_pure(spec.model)
    _check_repeatable(spec)
    vector = spec.parameters.vector.detach()
    with as_unsupported():
        package = compile_step(spec, spec.images)
        check_package(package, (vector, spec.images))
        graph = load_graph(package)
        graph(vector, spec.images)

    def gradients_of(images: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            gradients, loss = graph(vector, images)
        return gradients, loss

    return gradients_of


def sharded_gradients(spec: StepSpec) -> Gradients:
    """Returns a function from a batch to gradients and loss, compiled now for shards of it.

    Small models gain more by a thread for each shard than by threads that share each operation. Stay within
    `one_thread` from step to step: such threads wait busily for the next operation, and would take the time
    of the shards.

    Raises:
        UnsupportedError: it cannot be compiled, or shards compute something else; says why.
    """
    check_pure(spec.model)
    _check_repeatable(spec)
    exact = eager_gradients(StepSpec(spec.model, spec.parameters, spec.loss, spec.images))
    with torch.random.fork_rng([]):
        whole = exact(spec.images)
        mean = _mean([exact(shard) for shard in spec.images.chunk(spec.shards)])
        check_close(mean, whole, torch.float32, "the images of a batch depend on each other")
    with as_unsupported(), one_thread():
        shard = spec.images[: spec.batch_size // spec.shards]
        runner = PackageRunner(compile_step(spec, shard), spec.shards)
        gradients_of = _ShardedGradients(runner, spec.parameters.vector.detach(), spec.shards)
        problem = "the compiled graph computes something else"
        check_rounding(gradients_of(spec.images), whole, spec, problem)
    return gradients_of


def _check_repeatable(spec: StepSpec) -> None:
    """Checks that a model of other classes than ours computes the same each time: a graph would.

    Torch's own random numbers may differ each time: the graph draws them too.

    Raises:
        UnsupportedError: it computes something else at the second call, or will later.
    """
    if fingerprint(spec.model) is not None:
        return
    exact = eager_gradients(StepSpec(spec.model, spec.parameters, spec.loss, spec.images))
    devices = [spec.images.device] if spec.images.device.type == "cuda" else []
    results, before = [], python_state(spec.model)
    for _ in range(2):
        with torch.random.fork_rng(devices):
            results.append(torch.cat([part.reshape(-1) for part in exact(spec.images)]))
    if python_state(spec.model) != before:
        raise UnsupportedError("the model changes itself as it computes")
    first, second = results
    if not torch.allclose(first, second, rtol=0, atol=_ROUNDING * float(first.norm()), equal_nan=True):
        raise UnsupportedError("a forward that computes something else at the second call")


class _ShardedGradients:
    """Gradients and loss of a batch: the means of those of its shards, each computed by a thread."""

    def __init__(self, runner: PackageRunner, vector: Tensor, shards: int) -> None:
        self._runner, self._vector, self._shards = runner, vector, shards

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        shards = images.chunk(self._shards)
        with torch.no_grad():
            return _mean(run_in_parallel([partial(self._runner, self._vector, shard) for shard in shards]))


def _mean(results: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Returns gradients and loss of a batch from those of its shards; overwrites the first gradients."""
    (mean, *others), losses = zip(*results, strict=True)

    def average(place: slice) -> None:
        for count, other in enumerate(others, start=2):
            mean[place].lerp_(other[place], 1 / count)

    for_each_slice(len(mean), average)
    return mean, sum(losses) / len(results)
