"""How fast this machine takes training steps, by backend and precision.

    backend, precision ─▶ steps of a small model, in one thread ─▶ Speed ─▶ user's cache

The processor's time is measured, not the clock's: what else runs on the machine does not count.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
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
from mixcoder.models.cost import Costs, count_costs
from mixcoder.models.dispatch import without_elements

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
_DIAGONAL: dict[str, Any] = {**_MIXER, "kernel_size": 1}
_LARGE_PARAMETERS = 4_363_601
_CNN: dict[str, Any] = {"type": "cnn", "channels": [24, 32, 48], "kernel_size": 5, "latent_dim": 16}
_REFINED: dict[str, Any] = {
    "type": "stack",
    "patch_size": 7,
    "latent_dim": 16,
    "code_channels": 12,
    "encoder": [{"channels": 16}, {"mixer": "kronecker"}],
    "decoder": [{"channels": 16}, {"mixer": "kronecker"}, {"channels": 16}],
    "refine": {"steps": 1},
}
"""The article's Mixer for native steps, convolutions for eager ones, a Mixer of many parameters for the time
that each parameter adds to a step, and two networks that write many elements for each multiply-add: the
Mixer with kernels of one patch, and a refined network with its second derivatives."""
_IMAGE_SHAPE = (1, 28, 28)
_FEW, _MANY = 1, 64
"""Images of the two batches: one shows what a step takes at least, the other what an image adds. With only a
few images, products with large matrices wait for memory, and a further image looks free."""
_REPETITIONS = 3
_LEAST_SECONDS = 1e-9
"""Of an image, also where a clock of few ticks or another program hides them."""
_COMPILED_GAIN = 1.5
"""How many times as fast a compiled step is as an eager one, which is measured in its place: compiling takes
longer than `mixcoder plan` may."""


@dataclass(frozen=True)
class Speed:
    """What one thread takes for training steps.

    Attributes:
        step_seconds: for a step, whatever its batch.
        madd_seconds: for a multiply-add.
        element_seconds: for an element that an activation or the like writes.
        parameter_seconds: for the gradient of a parameter and its update, in a step.
    """

    step_seconds: float
    madd_seconds: float
    element_seconds: float
    parameter_seconds: float

    def seconds(self, work: Work, threads: int) -> float:
        """Returns the seconds of one step that so many threads share."""
        madds = work.costs.train_madds * work.batch_size + work.update_madds
        elements = self.element_seconds * work.costs.train_elements * work.batch_size
        shared = self.madd_seconds * madds + elements + self.parameter_seconds * work.parameters
        return self.step_seconds + shared / threads


@dataclass(frozen=True)
class Work:
    """What a training step has to do.

    Attributes:
        costs: of one image.
        parameters: of the model.
        batch_size: images.
        update_madds: multiply-adds of the optimizer, beside some for each parameter.
    """

    costs: Costs
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
        speed = _measure_speed(choice)
    path.write_text(json.dumps(asdict(speed)), encoding="utf-8")


def _measure_speed(choice: BackendChoice) -> Speed:
    backend, model = (NATIVE, _MIXER) if choice.backend is NATIVE else (EAGER, _CNN)
    timed = BackendChoice(backend, choice.precision, fallbacks=())
    models = [_measure(arguments, timed) for arguments in (model, _LARGE, _REFINED, _DIAGONAL)]
    first, large, *_ = models
    gain = _COMPILED_GAIN if choice.backend is not backend else 1.0
    madd_seconds, element_seconds = fit_costs(models)
    step_seconds = max(0.0, first.few - first.image_seconds)
    parameter_seconds = max(0.0, large.few - first.few) / _LARGE_PARAMETERS
    return Speed(step_seconds / gain, madd_seconds / gain, element_seconds / gain, parameter_seconds)


@dataclass(frozen=True)
class Timed:
    """A model whose steps were timed.

    Attributes:
        costs: of one image.
        few: seconds of a step with a single image.
        image_seconds: that each further image takes.
    """

    costs: Costs
    few: float
    image_seconds: float


def fit_costs(models: Sequence[Timed]) -> tuple[float, float]:
    """Returns the seconds of a multiply-add and of an element that explain the models' images best.

    Errors count by the seconds that the models take. Neither of the two is below zero.
    """
    counts = [[model.costs.train_madds, model.costs.train_elements] for model in models]
    seconds = [[model.image_seconds] for model in models]
    shares = torch.tensor(counts, dtype=torch.float64) / torch.tensor(seconds, dtype=torch.float64)
    ones = torch.ones(len(models), 1, dtype=torch.float64)
    madd, element = torch.linalg.lstsq(shares, ones).solution.flatten().tolist()
    if madd < 0 or element < 0:  # as chance may have it: all that a model takes is in proportion to one
        madd, element = float(shares[:, 0].sum() / shares[:, 0].square().sum()), 0.0
    return madd, element


def _measure(arguments: dict[str, Any], choice: BackendChoice) -> Timed:
    """Returns what the steps of a model take."""
    arguments = {"image_shape": _IMAGE_SHAPE, **arguments}
    name = arguments.pop("type")
    model = create_model(name, **arguments).train()
    parameters = FlatParameters(model)
    few, many = (_step_seconds(model, parameters, choice, count) for count in (_FEW, _MANY))
    with without_elements():
        costs = count_costs(create_model(name, **arguments))
    return Timed(costs, few, max(_LEAST_SECONDS, (many - few) / (_MANY - _FEW)))


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
