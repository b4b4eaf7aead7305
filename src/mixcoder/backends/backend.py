"""How the steps of a run are computed: by what, and in which precision.

recipe, model, device ─▶ Execution ─▶ Gradients
                            └─ a sentence that says what was chosen, and why not what was hoped for
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mixcoder.backends.gradients import (
    CompileError,
    Gradients,
    compiled_gradients,
    eager_gradients,
    native_gradients,
    split_gradients,
)
from mixcoder.backends.native.native_step import has_operations
from mixcoder.backends.parameters import FlatParameters
from mixcoder.backends.threads import one_thread
from mixcoder.models.autoencoder import Autoencoder
from mixcoder.models.cost import count_madds
from mixcoder.models.summary import count_parameters
from mixcoder.training.recipe import Recipe

_COMPILE_PAYS_FROM = 4e11
"""Multiply-adds of a whole training run, from which compiling saves more time than it takes."""
_NATIVE_PAYS_FROM = 2e10
"""The same for our own operations, which a machine compiles but once."""
_NATIVE_PAYS_BELOW = 3e7
"""Multiply-adds of an image, above which a compiled graph is faster, whose operations use all threads."""
_BFLOAT16_PAYS_FROM = 2e6
"""Multiply-adds of an image, below which converting numbers takes more time than it saves."""
_SPLIT_PAYS_BELOW = 4e6
"""Multiply-adds of an image, above which threads that share an operation are faster than parts of a batch."""
_SPLIT_PAYS_BELOW_PARAMETERS = 5e5
"""Parameters, above which reading them for each part, and adding up gradients, takes more than that saves."""
_SMALLEST_PART = 16
"""Images, below which a thread's part of a batch is too small to pay."""


@dataclass(frozen=True)
class Execution:
    """How steps are computed.

    Attributes:
        is_compiled: as one compiled graph, not operation by operation, where they are not native.
        precision: of matrix products and convolutions; all else is float32.
        parts: of a batch, computed side by side.
        is_native: by operations of our own.
        note: why it is not compiled, where it was to be.
    """

    is_compiled: bool
    precision: torch.dtype
    parts: int = 1
    is_native: bool = False
    note: str = ""

    def threads(self) -> AbstractContextManager[None]:
        """What steps are to be taken within: parts of a batch leave no thread for what is around them."""
        return one_thread() if self.parts > 1 else nullcontext()

    def __str__(self) -> str:
        way = "native" if self.is_native else "compiled" if self.is_compiled else "eager"
        parts = f", batches in {self.parts} parts side by side" if self.parts > 1 else ""
        precision = str(self.precision).removeprefix("torch.")
        return f"{way} steps, products in {precision}{parts}{self.note and f' ({self.note})'}"


def choose_execution(model: Autoencoder, recipe: Recipe, inputs: int, device: torch.device) -> Execution:
    """The fastest way that `recipe` allows to train `model` on `inputs` images."""
    return choose_counted_execution(model, count_madds(model), recipe, inputs, device)


def choose_counted_execution(
    model: Autoencoder, madds: int, recipe: Recipe, inputs: int, device: torch.device
) -> Execution:
    """The same for a model whose multiply-adds have been counted."""
    is_asked = recipe.compile == "on"
    is_compiled = is_asked or madds * inputs >= _COMPILE_PAYS_FROM
    leaves_no_thread = _parts(recipe.batch_size) > 1 or torch.get_num_threads() == 1
    is_small = device.type == "cpu" and leaves_no_thread and madds < _NATIVE_PAYS_BELOW
    is_native = is_small and (is_asked or madds * inputs >= _NATIVE_PAYS_FROM) and has_operations(model)
    if recipe.compile == "off" or (recipe.precision == "bfloat16" and not _library_multiplies_bfloat16()):
        is_native = False
    if recipe.precision == "auto":
        is_faster = _library_multiplies_bfloat16() if is_native else computes_bfloat16(device)
        is_worth_it = madds >= _BFLOAT16_PAYS_FROM and is_faster
        precision = torch.bfloat16 if is_worth_it else torch.float32
    else:
        precision = {"float32": torch.float32, "bfloat16": torch.bfloat16}[recipe.precision]
    if recipe.compile == "off" or not (is_compiled or is_native):
        return Execution(is_compiled=False, precision=precision)
    parts = _parts(recipe.batch_size) if is_native else _parts_of_graphs(model, recipe.batch_size, device)
    return Execution(is_compiled, precision, parts, is_native)


def _parts_of_graphs(model: Autoencoder, batch_size: int, device: torch.device) -> int:
    """How many equal parts of a batch are best computed side by side, each by a compiled graph."""
    has_few_madds = count_madds(model) < _SPLIT_PAYS_BELOW
    is_small = has_few_madds and count_parameters(model) < _SPLIT_PAYS_BELOW_PARAMETERS
    return _parts(batch_size) if device.type == "cpu" and is_small else 1


def _parts(batch_size: int) -> int:
    """How many equal parts of a batch the threads can take."""
    numbers = range(2, torch.get_num_threads() + 1)
    return max((n for n in numbers if batch_size % n == 0 and batch_size // n >= _SMALLEST_PART), default=1)


def computes_bfloat16(device: torch.device) -> bool:
    """Whether `device` multiplies bfloat16 numbers itself, and so faster than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())


def _library_multiplies_bfloat16() -> bool:
    """Whether the BLAS that our own operations call does: on processors with tiles alone."""
    return bool(torch.cpu.get_capabilities().get("amx_bf16"))


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
    if execution.is_native:
        try:
            gradients = native_gradients(
                model, parameters, loss, execution.precision, images, execution.parts
            )
            return gradients, execution
        except CompileError as error:  # a compiler may take it still
            note = "" if execution.is_compiled else f"our own operations could not be compiled: {error}"
            parts = _parts_of_graphs(model, len(images), images.device)
            execution = replace(execution, is_native=False, parts=parts, note=note)
    if execution.is_compiled and execution.parts > 1:
        try:
            gradients = split_gradients(model, parameters, loss, execution.precision, images, execution.parts)
            return gradients, execution
        except CompileError:  # one graph for the whole batch may be possible still, and else says why not
            execution = replace(execution, parts=1)
    if execution.is_compiled:
        try:
            return compiled_gradients(model, parameters, loss, execution.precision, images), execution
        except CompileError as error:
            execution = replace(execution, is_compiled=False, note=f"they could not be compiled: {error}")
    eager = eager_gradients(model, parameters, loss, execution.precision)
    return eager, replace(execution, parts=1)
