"""Refinement of a latent by the decoder's gradient, within the model: the key `refine` of every model.

    images x ──encoder──▶ z_0
    for k = 1 … steps:
        error = decode(z_{k-1}) - x                         (B, C, H, W)
        gradient = J(z_{k-1})ᵀ error                        (B, D)
        step = M_k gradient, no longer than `trust_radius`  (B, D)
        z_k = z_{k-1} - step
    latents z_steps (B, *latent_shape), D numbers each

The matrices M_k are trained, and the whole is trained through, second derivatives included. J is the Jacobian
of the decoder before its output activation: a pixel at the end of that activation, where its derivative is
nearly zero, would otherwise never be corrected.

Source: one step from zero in place of an encoder, "Gradient Origin Networks", arXiv 2007.02798; steps from an
encoder's latent, "Iterative Amortized Inference", arXiv 1807.09356.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, ClassVar, Literal, NotRequired

import torch
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, with_config
from torch import Tensor, nn
from typing_extensions import TypedDict

from mixcoder.errors import ArgumentError
from mixcoder.models.pull_back import pull_back
from mixcoder.registry.problems import describe_value

_Function = Callable[[Tensor], Tensor]
MOST_STEPS = 64
_MATRIX: Literal["full"] = "full"
_FIRST_STEP = 0.05
_TRUST_RADIUS = 1.0
_LARGEST_MATRIX = 1024
"""Numbers of a code, above which a matrix of a step would be most of a small network."""


@with_config(ConfigDict(strict=True, extra="forbid"))
class RefineSettings(TypedDict):
    """What an experiment file states of a refinement: arguments of `CodeRefinement`."""

    steps: Annotated[int, Field(ge=1, le=MOST_STEPS, description="steps down the gradient, in training")]
    matrix: NotRequired[
        Annotated[
            Literal["full", "diagonal"],
            Field(default=_MATRIX, description="by which a gradient is multiplied"),
        ]
    ]
    first_step: NotRequired[
        Annotated[float, Field(default=_FIRST_STEP, gt=0, description="start value of the matrix's diagonal")]
    ]
    trust_radius: NotRequired[
        Annotated[
            float, Field(default=_TRUST_RADIUS, gt=0, description="the longest step, in the space of codes")
        ]
    ]
    fewest: NotRequired[
        Annotated[
            int,
            Field(
                ge=0,
                le=MOST_STEPS,
                description="training draws the steps for each batch at random, from `fewest` to `steps`; "
                "by default always `steps`",
            ),
        ]
    ]


def _check_map(stated: object) -> object:
    """Returns what a file states of a refinement, if it is a map.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(stated, Mapping):
        right = f"{{steps: {stated}}}" if type(stated) is int and stated > 0 else "{steps: 2}"
        raise ValueError(f"must be a map, such as {right}, not {describe_value(stated)}")
    return stated


class ModelKeys(BaseModel):
    """The keys of an experiment file that go with every model."""

    refine: Annotated[RefineSettings, BeforeValidator(_check_map)] | None = Field(
        default=None,
        description="refines each code by the gradient of the decoder, such as `{steps: 2}`; `null` for none",
    )


class CodeRefinement(nn.Module):
    """A few steps of a code down the gradient of its squared error.

    Args:
        latent_shape: of one image's latent.
        steps: how many.
        matrix: `full` multiplies the gradient by a matrix (D, D) in each step, `diagonal` by D numbers.
        first_step: start value of the matrix's diagonal; the rest of a matrix begins as zeros.
        trust_radius: the longest step, in the space of codes; a longer one is shortened. It keeps training
            from diverging.
        fewest: steps in training, where they are drawn at random for each batch; None for always `steps`.

    Attributes:
        steps: as stated.
        fewest: as stated, or `steps`.
        steps_now: the steps of a forward in training mode.

    Raises:
        ArgumentError: a number beyond reason.
    """

    optimized_as: ClassVar = {"matrices": "vector"}

    def __init__(
        self,
        latent_shape: Sequence[int],
        steps: int,
        matrix: Literal["full", "diagonal"] = _MATRIX,
        first_step: float = _FIRST_STEP,
        trust_radius: float = _TRUST_RADIUS,
        fewest: int | None = None,
    ) -> None:
        super().__init__()
        numbers = math.prod(latent_shape)
        _check_numbers(numbers, steps, matrix, first_step, trust_radius)
        self.steps = self.steps_now = steps
        self.fewest = steps if fewest is None else fewest
        if self.fewest > steps:
            raise ArgumentError("fewest", f"must be at most the {steps} steps, got {fewest}")
        self.trust_radius = trust_radius
        self.is_full = matrix == "full"
        start = torch.eye(numbers) if self.is_full else torch.ones(numbers)
        self.matrices = nn.Parameter(first_step * start.repeat(steps, *(1 for _ in start.shape)))

    def forward(
        self, images: Tensor, latents: Tensor, decode: _Function, output: _Function, steps: int | None
    ) -> Tensor:
        """Returns the latents (B, *latent_shape) of images (B, C, H, W), refined.

        Args:
            images: to come nearer to.
            latents: of the encoder.
            decode: the decoder before its output activation, from latents to (B, C, H, W).
            output: that activation.
            steps: how many; None for those that are trained. Further steps repeat the last one's matrix.

        Raises:
            ArgumentError: the latents are integers.
        """

        def error(values: Tensor) -> Tensor:
            return output(values) - images  # (B, C, H, W)

        if steps is None:
            steps = self.steps_now if self.training else self.steps
        if steps and not latents.is_floating_point():
            raise ArgumentError(
                "refine",
                f"needs codes of floating point numbers, and those of this model are {latents.dtype}",
            )
        for step in range(steps):
            gradient = pull_back(decode, latents, error)
            latents = latents - self._bounded(gradient.flatten(1), step).view_as(latents)
        return latents

    def _bounded(self, gradient: Tensor, step: int) -> Tensor:
        """Returns the step for a gradient (B, D), of a length of at most the trust radius."""
        matrix = self.matrices[min(step, self.steps - 1)]
        change = gradient @ matrix.t() if self.is_full else gradient * matrix  # (B, D)
        squared = (change * change).sum(dim=1, keepdim=True) / self.trust_radius**2  # (B, 1)
        return change / squared.clamp(min=1).sqrt()

    def extra_repr(self) -> str:
        return f"steps={self.steps}, trust_radius={self.trust_radius}"


def _check_numbers(numbers: int, steps: int, matrix: str, first_step: float, trust_radius: float) -> None:
    """Checks the arguments of a refinement.

    Raises:
        ArgumentError: names the argument.
    """
    if type(steps) is not int or not 1 <= steps <= MOST_STEPS:
        raise ArgumentError("steps", f"must be a whole number from 1 to {MOST_STEPS}, got {steps}")
    if matrix == "full" and numbers > _LARGEST_MATRIX:
        raise ArgumentError(
            "matrix",
            f"must be diagonal for a code of {numbers:,} numbers; full goes up to {_LARGEST_MATRIX:,}",
        )
    for name, number in (("first_step", first_step), ("trust_radius", trust_radius)):
        if not (math.isfinite(number) and number > 0):
            raise ArgumentError(name, f"must be a finite number above 0, got {number}")


def check_steps(steps: object, refinement: CodeRefinement | None) -> None:
    """Checks how many steps of a refinement are asked for at evaluation.

    Raises:
        ArgumentError: it is no number of steps, or there are some and no refinement.
    """
    if steps is not None and (type(steps) is not int or not 0 <= steps <= MOST_STEPS):
        raise ArgumentError("steps", f"must be a whole number from 0 to {MOST_STEPS}, got {steps}")
    if steps and refinement is None:
        raise ArgumentError("steps", f"must be 0 for a model without `refine`, got {steps}")
