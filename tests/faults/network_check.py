"""Native steps of a network against eager ones in double precision: gradients, then five steps.

case ─▶ network ─┬─▶ native: gradients, loss, five steps ─┐
                 └─▶ eager, float64: the same ────────────┴▶ what differs, or ""
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mixcoder.backends.eager import EAGER, eager_gradients
from mixcoder.backends.losses import LOSSES
from mixcoder.backends.matrices import MatrixShape
from mixcoder.backends.native.native_backend import NATIVE
from mixcoder.backends.native.native_step import NativeStep, missing_operation
from mixcoder.backends.parameters import FlatParameters
from mixcoder.backends.step import Gradients, StepSpec, TrainingStep, UnsupportedError, apply_optimizers
from mixcoder.backends.weight_average import WeightAverage
from mixcoder.models import Autoencoder
from mixcoder.training.optimizers import create_optimizers, set_learning_rate
from tests.faults.random_networks import Case, create_images, create_network

LEARNING_RATE = 0.003
STEPS = 5
SELF_CHECK = "the operations compute something else"
"""What `Native.build` says when its own check against eager steps fails."""

_FLOAT32_ERROR = 1e-4
"""Of gradients, relative to the largest of their tensor, below which nothing is looked at closer."""
_SMALLEST_SCALE = 0.05
"""Of a tensor's gradients, relative to the largest of all: smaller ones are sums that cancel."""
_PERTURBATIONS, _PERTURBATION = 8, 1e-6
"""How often, and by how much of their size, parameters are changed to see how steep the gradients are."""
_STEEP = 10.0
"""Times the change by a perturbation that rounding may make."""
_BF16_ERROR, _BF16_TIMES = 0.02, 4.0
"""Of the norm of all gradients; and times the error of torch's own steps in bfloat16."""
_BF16_PERTURBATION, _BF16_PERTURBATIONS = 2**-8, 32
"""Of a value, that rounding to bfloat16 may change; and how often it is tried."""
_SURE_GRADIENT = 1e-3
"""Of the largest of its tensor: the sign of a smaller gradient, which AdamW steps by, may be rounding."""
_LEAST_GRADIENT = 1e-6
"""Below which a gradient may be rounding alone."""
_LEAST_SINGULAR = 0.05
"""Of the largest singular value of a gradient: along smaller ones, Muon makes much of rounding."""
_UPDATE_ERROR = 0.1
"""Of the learning rate times the steps, by which sure elements may differ after AdamW."""


class RefusedError(Exception):
    """The native backend refuses the network, and says which part."""


class Compared:
    """A network, its batch, and the same network in double precision."""

    def __init__(self, case: Case) -> None:
        self.case = case
        model = create_network(case)
        self.exact = _in_double(model)
        images = create_images(case, model)
        precision = getattr(torch, case["precision"])
        flat = FlatParameters(model)
        self.spec = StepSpec(model, flat, case["loss"], images, precision=precision, shards=case["shards"])

    def exact_gradients(self, parameters: Sequence[Tensor], images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Gradients and loss in double precision, of parameters that may be float32."""
        trained = [parameter for parameter in self.exact.parameters() if parameter.requires_grad]
        with torch.no_grad():
            for parameter, value in zip(trained, parameters, strict=True):
                parameter.copy_(value)
        inputs = images.double() / 255
        loss = LOSSES[self.case["loss"]](self.exact(inputs), inputs)
        return list(torch.autograd.grad(loss, trained, materialize_grads=True)), loss.detach()


def _in_double(model: Autoencoder) -> Autoencoder:
    """A copy in double precision. The default epsilon of an RMSNorm is that of its precision: it stays."""
    exact = copy.deepcopy(model).double()
    for module in exact.modules():
        if isinstance(module, nn.RMSNorm) and module.eps is None:
            module.eps = torch.finfo(torch.float32).eps
    return exact


def check_network(case: Case) -> str:
    """What differs between native and eager steps; empty where nothing does.

    Raises:
        RefusedError: the native backend does not take the network.
    """
    with sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():  # others have no second derivatives
        warnings.filterwarnings("ignore", "Mismatch dtype between input and weight")  # torch's, of its speed
        return _check(Compared(case))


def _check(compared: Compared) -> str:
    try:
        step = NativeStep(compared.spec)
    except UnsupportedError as error:
        if missing_operation(compared.spec.model) is None and compared.spec.precision == torch.float32:
            return f"refused ({error}) although no operation is missing"
        raise RefusedError(str(error)) from error
    images = compared.spec.images
    step(images.flip(0))  # what one call leaves behind must not show in the next
    gradients, loss = step(images)
    expected, exact_loss = compared.exact_gradients(compared.spec.parameters.parameters, images)
    if not all(tensor.float().isfinite().all() for tensor in (exact_loss, *expected)):
        return ""  # no float32 holds them
    if compared.spec.precision != torch.float32:
        return _rounded_differ(compared, gradients, expected)
    allowed = _FLOAT32_ERROR * abs(exact_loss.item()) + 1e-6 + _STEEP * _slope(compared, expected)
    if abs(loss.item() - exact_loss.item()) > allowed:
        return f"loss: {loss.item()!r}, exactly {exact_loss.item()!r}"
    return _gradients_differ(compared, gradients, expected) or _steps_differ(compared)


def _slope(compared: Compared, expected: Sequence[Tensor]) -> float:
    """By how much the loss changes when the parameters change by little more than rounding."""
    changes = zip(expected, compared.spec.parameters.parameters, strict=True)
    return _PERTURBATION * math.sqrt(sum((g * p.detach()).square().sum().item() for g, p in changes))


def _gradients_differ(compared: Compared, gradients: Tensor, expected: Sequence[Tensor]) -> str:
    """Gradients in float32 err by rounding alone."""
    spec = compared.spec
    largest = max(gradient.abs().max().item() for gradient in expected)
    steepness: list[float] = []
    split = spec.parameters.split(gradients)
    for index, (name, found, right) in enumerate(zip(spec.parameters.names, split, expected, strict=True)):
        scale = max(right.abs().max().item(), _SMALLEST_SCALE * largest) + 1e-12
        error = (found.double() - right).abs().max().item() / scale
        if not error <= _FLOAT32_ERROR:
            steepness = steepness or _steepness(compared, expected)
            if not error * scale <= _STEEP * steepness[index] + _FLOAT32_ERROR * scale:
                return f"gradient of {name} {tuple(right.shape)}: by {error:.1e} of its largest"
    return ""


def _steepness(compared: Compared, expected: Sequence[Tensor]) -> list[float]:
    """How much the gradients of each parameter change when all parameters change a little.

    The change is hardly more than rounding. At a bend, as of a ReLU near zero, the gradients change much;
    where they are computed wrongly, they do not. What torch's own rounding makes counts too.
    """
    steepness = [0.0] * len(expected)
    eager = compared.spec.parameters.split(eager_gradients(compared.spec)(compared.spec.images)[0])
    for changed in [eager, *_perturbed(compared, _PERTURBATION, _PERTURBATIONS)]:
        for index, (one, other) in enumerate(zip(changed, expected, strict=True)):
            steepness[index] = max(steepness[index], (one - other).abs().max().item())
    return steepness


def _perturbed(compared: Compared, size: float, times: int) -> Iterator[list[Tensor]]:
    """Yields exact gradients of parameters that are changed by this part of their values."""
    generator = torch.Generator().manual_seed(0)
    values = [parameter.detach().double() for parameter in compared.spec.parameters.parameters]
    for _ in range(times):
        noise = [torch.randn(value.shape, generator=generator, dtype=value.dtype) for value in values]
        near = [value * (1 + size * change) for value, change in zip(values, noise, strict=True)]
        yield compared.exact_gradients(near, compared.spec.images)[0]


def _rounded_differ(compared: Compared, gradients: Tensor, expected: Sequence[Tensor]) -> str:
    """Gradients in bfloat16 err by about as much as torch's own, or as by rounding of the parameters."""
    spec = compared.spec
    right = spec.parameters.join([gradient.float() for gradient in expected])
    rounded, _ = eager_gradients(spec)(spec.images)
    error, usual = (gradients - right).norm().item(), (rounded - right).norm().item()
    if error <= _BF16_TIMES * usual + _BF16_ERROR * right.norm().item():
        return ""
    changed = _perturbed(compared, _BF16_PERTURBATION, _BF16_PERTURBATIONS)
    near = [spec.parameters.join(tensors).float() for tensors in changed]
    if error <= _BF16_TIMES * max((other - right).norm().item() for other in near):
        return ""
    return f"gradients in bfloat16: err by {error:.2e}, torch's own by {usual:.2e} of {right.norm():.2e}"


def _steps_differ(compared: Compared) -> str:
    """Five steps in float32; where other good steps go astray too, the training itself is chaotic."""
    problem = _trained_by(compared, NATIVE)
    near = [_ExactFromNear(compared, seed) for seed in range(_PERTURBATIONS)]
    others: list[_Builder] = [EAGER, *near]
    return "" if problem and any(_trained_by(compared, other) for other in others) else problem


class _Builder(Protocol):
    """The part of a backend that is needed here."""

    def build(self, spec: StepSpec) -> TrainingStep: ...


class _ExactFromNear:
    """Steps with exact gradients, from parameters that are changed by little more than rounding."""

    def __init__(self, compared: Compared, seed: int) -> None:
        self._compared, self._seed = compared, seed

    def build(self, spec: StepSpec) -> TrainingStep:
        generator = torch.Generator().manual_seed(self._seed)
        vector = spec.parameters.vector.detach()
        vector.mul_(1 + 4 * _PERTURBATION * torch.randn(len(vector), generator=generator))
        return apply_optimizers(_exact(self._compared, spec, []), spec)


def _trained_by(compared: Compared, backend: _Builder) -> str:
    """Five steps of a backend with its use of gradients, beside as many with exact gradients."""
    case = compared.case
    own, reference = (_with_copy(compared.spec, case) for _ in range(2))
    start = own.parameters.vector.detach().clone()
    seen: list[Tensor] = []
    exact_step = apply_optimizers(_exact(compared, reference, seen), reference)
    try:
        step = backend.build(own)
    except UnsupportedError as error:
        return f"five steps: {error}"
    for count, images in enumerate(_batches(own.images), start=1):
        set_learning_rate([*own.optimizers, *reference.optimizers], LEARNING_RATE / count**0.5)
        loss, exact_loss = step(images).item(), exact_step(images).item()
        if not math.isfinite(exact_loss):
            return ""
        if abs(loss - exact_loss) > 0.02 * abs(exact_loss) + 1e-6:
            return f"loss of step {count}: {loss!r}, exactly {exact_loss!r}"
    for spec in (own, reference):
        if spec.average:
            spec.average.apply()
    return _weights_differ(case, own, reference, start, seen)


def _with_copy(spec: StepSpec, case: Case) -> StepSpec:
    """The same with a copy of the model, and what a step does with gradients."""
    model = copy.deepcopy(spec.model)
    flat = FlatParameters(model)
    names = ("weight_decay", "vector_learning_rate")
    settings = {name: case[name] for name in names if case[name] is not None}
    optimizers = create_optimizers(flat, case["optimizer"], LEARNING_RATE, **settings)
    average = WeightAverage(flat.vector.detach(), case["ema"]) if case["ema"] else None
    given = {"optimizers": optimizers, "clip_norm": case["clip_norm"], "average": average}
    return replace(spec, model=model, parameters=flat, **given)


def _batches(images: Tensor) -> Iterator[Tensor]:
    for turn in range(STEPS):
        yield images.roll(turn, 0) if turn % 2 else images.roll(turn, 3)


def _exact(compared: Compared, reference: StepSpec, seen: list[Tensor]) -> Gradients:
    """Gradients in double precision of the reference's parameters; `seen` collects them."""

    def gradients_of(images: Tensor) -> tuple[Tensor, Tensor]:
        gradients, loss = compared.exact_gradients(reference.parameters.parameters, images)
        seen.append(reference.parameters.join([gradient.float() for gradient in gradients]))
        return seen[-1].clone(), loss.float()

    return gradients_of


def _weights_differ(
    case: Case, native: StepSpec, reference: StepSpec, start: Tensor, seen: Sequence[Tensor]
) -> str:
    """Compares the parameters after all steps, by the elements whose gradients are more than rounding."""
    flat = native.parameters
    vectors = (v.detach() for v in (flat.vector, reference.parameters.vector, start))
    split = [flat.split(vector) for vector in vectors]
    gradients = [flat.split(vector) for vector in seen]
    for index, (name, parameter) in enumerate(zip(flat.names, flat.parameters, strict=True)):
        found, right, before = (values[index] for values in split)
        steps = torch.stack([values[index] for values in gradients])  # (steps, …)
        changes = found - before, right - before
        if case["optimizer"] == "sgd":
            problem = _sum_differs(*changes)
        elif case["optimizer"] == "muon" and parameter in flat.matrices:
            problem = _orthogonal_differs(*changes, steps, flat.matrices[parameter])
        else:
            problem = _moments_differ(*changes, steps, case["vector_learning_rate"] or LEARNING_RATE)
        if problem:
            return f"{name} {tuple(right.shape)} after {STEPS} steps of {case['optimizer']}: {problem}"
    return ""


def _sum_differs(found: Tensor, right: Tensor) -> str:
    """What differs between changes by SGD, which adds up gradients."""
    error, largest = (found - right).abs().max().item(), right.abs().max().item()
    return "" if error <= 0.01 * largest + 1e-6 else f"differs by {error:.1e} of {largest:.1e}"


def _moments_differ(found: Tensor, right: Tensor, gradients: Tensor, rate: float) -> str:
    """What differs between changes by AdamW, after gradients (steps, …)."""
    largest = gradients.reshape(len(gradients), -1).abs().amax(1).view(-1, *[1] * found.ndim)
    is_sure = (gradients.abs() > _SURE_GRADIENT * largest).all(0) & (gradients.abs() > _LEAST_GRADIENT).all(0)
    bounds = torch.where(is_sure, _UPDATE_ERROR, 2.5) * rate * STEPS + 1e-6
    worst = ((found - right).abs() / bounds).max().item()
    return "" if worst <= 1 else f"differs by {worst:.1f} times what is allowed"


def _orthogonal_differs(found: Tensor, right: Tensor, gradients: Tensor, shape: MatrixShape) -> str:
    """What differs between changes by Muon, where no direction of the gradients is rounding alone."""
    singular = torch.linalg.svdvals(gradients.double().reshape(-1, *shape[1:]))  # (steps·batch, smaller side)
    if singular.amin() <= max(_LEAST_SINGULAR * singular.amax().item(), _LEAST_GRADIENT):
        return ""
    root_mean_square = 0.2 * LEARNING_RATE * math.sqrt(found.numel())  # of a step
    error = (found - right).norm().item()
    return "" if error <= _UPDATE_ERROR * STEPS * root_mean_square + 1e-6 else f"differs by {error:.1e}"


def describe_network(case: Case) -> str:
    """The network as torch prints it."""
    model: Autoencoder = create_network(case)
    return str(model)
