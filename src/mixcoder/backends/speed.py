"""How fast this machine takes training steps, for each way of computing them.

    native, compiled or eager; precision ─▶ steps of a small model, in one thread ─▶ Speed ─▶ user's cache

What is measured is the processor's time, not the clock's: what else runs on the machine does not count.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mixcoder.backends.backend import Execution
from mixcoder.backends.build_cache import build_once, cache_key
from mixcoder.backends.fingerprint import code_version
from mixcoder.backends.gradients import eager_gradients
from mixcoder.backends.native.native_step import NativeStep
from mixcoder.backends.parameters import FlatParameters
from mixcoder.backends.step import TrainingStep, create_step
from mixcoder.backends.threads import one_thread
from mixcoder.models import create_model
from mixcoder.models.cost import count_madds
from mixcoder.training.optimizers import VectorAdamW

_MIXER: dict[str, Any] = {
    "type": "mixer",
    "patch_size": 7,
    "hidden_channels": [64, 64, 64, 16],
    "latent_dim": 16,
    "mixer_at": [2, 3, 4],
    "mixer": "cnn",
    "kernel_size": 3,
}
_LARGE: dict[str, Any] = {**_MIXER, "mixer": "mlp"}
_LARGE_PARAMETERS = 4_363_601
_CNN: dict[str, Any] = {"type": "cnn", "channels": [24, 32, 48], "kernel_size": 5, "latent_dim": 16}
"""The article's: a Mixer for native steps, convolutions for those that are torch's own, and a Mixer of many
parameters for what each of them adds to a step."""
_IMAGE_SHAPE = (1, 28, 28)
_FEW, _MANY = 1, 16
"""Images of the two batches: one tells what a step takes at least, the other what an image adds."""
_REPETITIONS = 3
_COMPILED_GAIN = 1.5
"""How many times as fast a compiled step is as an eager one, which is measured in its place: to compile one
takes longer than `mixcoder plan` may."""


@dataclass(frozen=True)
class Speed:
    """What one thread takes for training steps.

    Attributes:
        step_seconds: for a step, whatever its batch.
        madd_seconds: for a multiply-add of an image, forward and back again.
        parameter_seconds: for the gradient of a parameter and its update, in a step.
    """

    step_seconds: float
    madd_seconds: float
    parameter_seconds: float

    def seconds(self, work: Work, threads: int) -> float:
        """The seconds of one step that so many threads share."""
        shared = self.madd_seconds * work.madds * work.batch_size + self.parameter_seconds * work.parameters
        return self.step_seconds + shared / threads


@dataclass(frozen=True)
class Work:
    """What a training step has to do.

    Attributes:
        madds: multiply-adds of one image, forward.
        parameters: of the model.
        batch_size: images.
    """

    madds: int
    parameters: int
    batch_size: int


def step_seconds(execution: Execution, work: Work) -> float:
    """How long a training step takes on this machine where nothing else runs.

    Raises:
        Exception: what a machine cannot compute in that way.
    """
    threads = execution.parts if execution.parts > 1 else torch.get_num_threads()
    return measured_speed(execution).seconds(work, threads)


def measured_speed(execution: Execution) -> Speed:
    """The speed of a way of computing: from the user's cache, or measured now for it."""
    way = execution.is_native, execution.is_compiled, str(execution.precision)
    path = build_once(cache_key("speed", code_version(), way), ".json", partial(_write, execution))
    return Speed(**json.loads(path.read_text(encoding="utf-8")))


def _write(execution: Execution, path: Path) -> None:
    with torch.random.fork_rng([]), one_thread():
        speed = _measure_native(execution) if execution.is_native else _measure_eager(execution)
    path.write_text(json.dumps(asdict(speed)), encoding="utf-8")


def _measure_native(execution: Execution) -> Speed:
    """Native steps update parameters while their gradients are still in the processor's cache."""

    def create(parameters: FlatParameters, model: nn.Module, images: int) -> TrainingStep:
        step = NativeStep(model, parameters, "mse", execution.precision, images)
        return step.with_optimizer(VectorAdamW(parameters.vector, 1e-3, {}))

    few, many, madds = _measure(_MIXER, create)
    per_image = (many - few) / (_MANY - _FEW)
    return Speed(max(0.0, few - per_image), per_image / madds, 0.0)


def _measure_eager(execution: Execution) -> Speed:
    def create(parameters: FlatParameters, model: Any, images: int) -> TrainingStep:
        gradients_of = eager_gradients(model, parameters, "mse", execution.precision)
        return create_step(gradients_of, parameters, [VectorAdamW(parameters.vector, 1e-3, {})])

    few, many, madds = _measure(_CNN, create)
    large, _, _ = _measure(_LARGE, create)
    gain = _COMPILED_GAIN if execution.is_compiled else 1.0
    per_image = (many - few) / (_MANY - _FEW) / gain
    per_parameter = max(0.0, large - few) / _LARGE_PARAMETERS
    return Speed(max(0.0, few / gain - per_image), per_image / madds, per_parameter)


def _measure(
    chosen: dict[str, Any], create: Callable[[FlatParameters, Any, int], TrainingStep]
) -> tuple[float, float, int]:
    """Seconds of a step with few and with many images, and the multiply-adds of one."""
    arguments = dict(chosen)
    model = create_model(arguments.pop("type"), image_shape=_IMAGE_SHAPE, **arguments).train()
    parameters = FlatParameters(model)
    seconds = [
        _least_seconds(create(parameters, model, count), torch.zeros(count, *_IMAGE_SHAPE, dtype=torch.uint8))
        for count in (_FEW, _MANY)
    ]
    return seconds[0], seconds[1], count_madds(model)


def _least_seconds(step: TrainingStep, images: Tensor) -> float:
    """The processor's seconds of the fastest of a few steps, after one that does not count."""
    step(images)
    seconds = []
    for _ in range(_REPETITIONS):
        start = time.thread_time()
        step(images)
        seconds.append(time.thread_time() - start)
    return min(seconds)
