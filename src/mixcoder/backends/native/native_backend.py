"""The backend of native steps: small models on the CPU."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from mixcoder.backends.eager import eager_gradients
from mixcoder.backends.native.native_step import NativeStep, missing_operation
from mixcoder.backends.native.products import describe_processor
from mixcoder.backends.native.updates import threads_can_update
from mixcoder.backends.self_check import as_unsupported, check_each_close, check_pure, check_rounding
from mixcoder.backends.step import StepSpec, TrainingStep, apply_optimizers
from mixcoder.backends.threads import one_thread
from mixcoder.backends.workload import Workload, bfloat16_instructions, shards_of
from mixcoder.device import factory_defaults

_PAYS_FROM = 2e10
"""Multiply-adds of a whole run, from which kernels save time: a machine compiles them but once."""
_PAYS_BELOW = 3e7
"""Multiply-adds of an image, above which a compiled graph is faster where its operations use more threads."""
_PAYS_BELOW_WITH_ALL_THREADS = 2e9
"""The same where there is a shard for each thread: of the largest networks measured."""
_BFLOAT16_PAYS_FROM_WITH_TILES = 2e6
_BFLOAT16_PAYS_FROM = 4e5
"""Multiply-adds of an image, below which converting to bfloat16 takes more time than it saves:
`python -m benchmarks.gemms` measures it."""


class Native:
    """A backend of native kernels, for models whose functions of torch all have a rule."""

    name = "native"
    failure = "our own operations could not be compiled"

    def pays(self, workload: Workload) -> bool:
        """Returns whether it saves time: on the CPU, with shards; for large models, with one a thread."""
        shards, threads = shards_of(workload.batch_size), torch.get_num_threads()
        below = _PAYS_BELOW_WITH_ALL_THREADS if shards == threads else _PAYS_BELOW
        has_shards = shards > 1 or threads == 1
        is_small = workload.madds < below and workload.device.type == "cpu"
        return workload.pays_from(_PAYS_FROM) and has_shards and is_small

    def supports(self, workload: Workload) -> str | None:
        """Returns why it cannot compute a workload; None where it can."""
        if workload.precision == "bfloat16" and not bfloat16_instructions(workload.device):
            return "this processor has no instructions for bfloat16"
        return missing_operation(workload.model)

    def shards(self, workload: Workload) -> int:
        """Returns one for each thread, where they are not too small."""
        return shards_of(workload.batch_size)

    def bfloat16_pays_from(self, device: torch.device) -> float:
        """Returns the multiply-adds of an image, from which products in bfloat16 are faster.

        Infinity where they never are, or where nobody has measured it: on Intel's processors without tiles.
        """
        processor = describe_processor()
        if processor.has_tiles:
            return _BFLOAT16_PAYS_FROM_WITH_TILES
        is_faster = processor.is_rival and bfloat16_instructions(device)
        return _BFLOAT16_PAYS_FROM if is_faster else math.inf

    def build(self, spec: StepSpec) -> TrainingStep:
        """Returns the step; where threads can update the parameters, that is part of the kernels.

        Stay within `one_thread` from step to step: threads that share an operation of torch's wait busily for
        the next one, and would take the time of the shards.

        Raises:
            UnsupportedError: a function has no rule, or the kernels cannot be compiled here.
        """
        check_pure(spec.model)
        with as_unsupported(), one_thread(), factory_defaults():
            gradients_of = NativeStep(spec)
            _check_gradients(spec, gradients_of)
        if threads_can_update(spec):
            with factory_defaults():
                return NativeStep(spec, spec.optimizers).update
        return apply_optimizers(gradients_of, spec)


def _check_gradients(spec: StepSpec, gradients_of: NativeStep) -> None:
    """Checks gradients against eager ones: all together, and in float32 those of each parameter.

    Raises:
        UnsupportedError: they differ by more than rounding.
    """
    problem = "the operations compute something else"
    exact = replace(spec, precision=torch.float32)
    expected = eager_gradients(exact)(spec.images)
    check_rounding(_second_call(gradients_of, spec.images), expected, spec, problem)
    in_float32 = gradients_of if spec.precision == torch.float32 else NativeStep(exact)
    found, _ = _second_call(in_float32, spec.images)
    split = spec.parameters.split
    check_each_close(split(found), split(expected[0]), problem)


def _second_call(gradients_of: NativeStep, images: Tensor) -> tuple[Tensor, Tensor]:
    """Returns gradients and loss of images after a step of others, which must leave nothing behind."""
    gradients_of(images.flip(0, -1))
    return gradients_of(images)


NATIVE = Native()
