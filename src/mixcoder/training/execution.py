"""How the steps of a run are computed: compiled or not, and in which precision.

recipe, model, device ─▶ Execution ─▶ Gradients
                            └─ a sentence that says what was chosen, and why not what was hoped for
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mixcoder.models.autoencoder import Autoencoder
from mixcoder.models.cost import count_madds
from mixcoder.training.flat_parameters import FlatParameters
from mixcoder.training.gradients import CompileError, Gradients, compiled_gradients, eager_gradients
from mixcoder.training.recipe import Recipe

_COMPILE_PAYS_FROM = 4e11
"""Multiply-adds of a whole training run, from which compiling saves more time than it takes."""
_BFLOAT16_PAYS_FROM = 1e6
"""Multiply-adds of an image, below which converting numbers takes more time than it saves."""


@dataclass(frozen=True)
class Execution:
    """How steps are computed.

    Attributes:
        is_compiled: as one compiled graph, not operation by operation.
        precision: of matrix products and convolutions; all else is float32.
        note: why it is not compiled, where it was to be.
    """

    is_compiled: bool
    precision: torch.dtype
    note: str = ""

    def __str__(self) -> str:
        way = "compiled" if self.is_compiled else "eager"
        precision = str(self.precision).removeprefix("torch.")
        return f"{way} steps, products in {precision}{self.note and f' ({self.note})'}"


def choose_execution(model: Autoencoder, recipe: Recipe, inputs: int, device: torch.device) -> Execution:
    """The fastest way that `recipe` allows to train `model` on `inputs` images."""
    madds = count_madds(model)
    if recipe.precision == "auto":
        is_worth_it = madds >= _BFLOAT16_PAYS_FROM and computes_bfloat16(device)
        precision = torch.bfloat16 if is_worth_it else torch.float32
    else:
        precision = {"float32": torch.float32, "bfloat16": torch.bfloat16}[recipe.precision]
    is_long = madds * inputs >= _COMPILE_PAYS_FROM
    return Execution(recipe.compile == "on" or (recipe.compile == "auto" and is_long), precision)


def computes_bfloat16(device: torch.device) -> bool:
    """Whether `device` multiplies bfloat16 numbers itself, and so faster than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())


def create_gradients(
    execution: Execution, model: Autoencoder, parameters: FlatParameters, loss: str, images: Tensor
) -> tuple[Gradients, Execution]:
    """What computes gradients as `execution` says, and how it does: eagerly, where it cannot be compiled.

    Args:
        execution: as chosen.
        model: in training mode.
        parameters: of the model.
        loss: "mse", "l1" or "huber".
        images: a batch (B, C, H, W) uint8 such as will come.
    """
    if execution.is_compiled:
        try:
            return compiled_gradients(model, parameters, loss, execution.precision, images), execution
        except CompileError as error:
            execution = replace(execution, is_compiled=False, note=f"they could not be compiled: {error}")
    return eager_gradients(model, parameters, loss, execution.precision), execution
