"""How fast this machine takes training steps, by backend and precision.

    backend, precision ─▶ steps of a small model, in one thread ─▶ Speed ─▶ user's cache

The processor's time is measured, not the clock's: what else runs on the machine does not count.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mixcoder.backends.backend import BackendChoice, build_step
from mixcoder.backends.build_cache import build_once, cache_key
from mixcoder.backends.eager import EAGER
from mixcoder.backends.fingerprint import code_version
from mixcoder.backends.native.native_backend import NATIVE
from mixcoder.backends.parameters import FlatParameters
from mixcoder.backends.step import StepSpec
from mixcoder.backends.threads import one_thread
from mixcoder.backends.vector_adamw import VectorAdamW
from mixcoder.models import create_model
from mixcoder.models.autoencoder import Autoencoder
from mixcoder.models.cost import count_madds

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
"""The article's: a Mixer for native steps, convolutions for eager ones, and a Mixer of many parameters for
the time that each parameter adds to a step."""
_IMAGE_SHAPE = (1, 28, 28)
_PASSES = 3
"""Multiply-adds that one of a forward pass makes in a step: forward, and two of the backward pass."""
_FEW, _MANY = 1, 16
"""Images of the two batches: one shows what a step takes at least, the other what an image adds."""
_REPETITIONS = 3
_COMPILED_GAIN = 1.5
"""How many times as fast a compiled step is as an eager one, which is measured in its place: compiling takes
longer than `mixcoder plan` may."""


@dataclass(frozen=True)
class Speed:
    """What one thread takes for training steps.

    Attributes:
        step_seconds: for a step, whatever its batch.
        madd_seconds: for a multiply-add of an image, forward and backward.
        parameter_seconds: for the gradient of a parameter and its update, in a step.
    """

    step_seconds: float
    madd_seconds: float
    parameter_seconds: float

    def seconds(self, work: Work, threads: int) -> float:
        """Returns the seconds of one step that so many threads share."""
        madds = work.madds * work.batch_size + work.update_madds / _PASSES
        shared = self.madd_seconds * madds + self.parameter_seconds * work.parameters
        return self.step_seconds + shared / threads


@dataclass(frozen=True)
class Work:
    """What a training step has to do.

    Attributes:
        madds: multiply-adds of one image, forward.
        parameters: of the model.
        batch_size: images.
        update_madds: multiply-adds of the optimizer, beside some for each parameter.
    """

    madds: int
    parameters: int
    batch_size: int
    update_madds: int = 0


def step_seconds(choice: BackendChoice, work: Work) -> float:
    """Returns how long a training step takes on this machine where nothing else runs.

    Raises:
        Exception: whatever the backend raises where it cannot compute here.
    """
    threads = choice.shards if choice.shards > 1 else torch.get_num_threads()
    return measured_speed(choice).seconds(work, threads)


def measured_speed(choice: BackendChoice) -> Speed:
    """Returns the speed of a backend and precision: from the user's cache, or measured now for it."""
    key = cache_key("speed", code_version(), choice.backend.name, str(choice.precision))
    path = build_once(key, ".json", partial(_write, choice))
    return Speed(**json.loads(path.read_text(encoding="utf-8")))


def _write(choice: BackendChoice, path: Path) -> None:
    with torch.random.fork_rng([]), one_thread():
        speed = _measure_native(choice) if choice.backend is NATIVE else _measure_eager(choice)
    path.write_text(json.dumps(asdict(speed)), encoding="utf-8")


def _measure_native(choice: BackendChoice) -> Speed:
    """Measures native steps, which update parameters while their gradients are still in the cache."""
    few, many, madds = _measure(_MIXER, BackendChoice(NATIVE, choice.precision, fallbacks=()))
    per_image = (many - few) / (_MANY - _FEW)
    return Speed(max(0.0, few - per_image), per_image / madds, 0.0)


def _measure_eager(choice: BackendChoice) -> Speed:
    eager = BackendChoice(EAGER, choice.precision)
    few, many, madds = _measure(_CNN, eager)
    large, _, _ = _measure(_LARGE, eager)
    gain = 1.0 if choice.backend is EAGER else _COMPILED_GAIN
    per_image = (many - few) / (_MANY - _FEW) / gain
    per_parameter = max(0.0, large - few) / _LARGE_PARAMETERS
    return Speed(max(0.0, few / gain - per_image), per_image / madds, per_parameter)


def _measure(arguments: dict[str, Any], choice: BackendChoice) -> tuple[float, float, int]:
    """Returns the seconds of a step with few and with many images, and the multiply-adds of one."""
    arguments = dict(arguments)
    model = create_model(arguments.pop("type"), image_shape=_IMAGE_SHAPE, **arguments).train()
    parameters = FlatParameters(model)
    few, many = (_step_seconds(model, parameters, choice, count) for count in (_FEW, _MANY))
    return few, many, count_madds(model)


def _step_seconds(
    model: Autoencoder, parameters: FlatParameters, choice: BackendChoice, batch_size: int
) -> float:
    """Returns the processor's seconds of the fastest of a few steps, after one that does not count."""
    images = torch.zeros(batch_size, *_IMAGE_SHAPE, dtype=torch.uint8)
    optimizer = VectorAdamW(parameters.vector, 1e-3)
    step, _ = build_step(StepSpec(model, parameters, "mse", images, [optimizer]), choice)
    step(images)
    seconds = []
    for _ in range(_REPETITIONS):
        start = time.thread_time()
        step(images)
        seconds.append(time.thread_time() - start)
    return min(seconds)
