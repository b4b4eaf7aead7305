"""What `kernels/` and Python share, stated here once: `codes.h` is generated from it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from torch import nn

from mixcoder.backends.newton_schulz import COEFFICIENTS, SMALLEST_NORM, STEPS
from mixcoder.backends.step import ADDED_TO_NORM
from mixcoder.models.activations import Clamp

OPERATIONS = (
    *("load_patches", "gemm", "gemm_bf16", "gemm_batch", "gemm_batch_bf16", "to_bf16"),
    *("activate", "activate_backward", "loss"),
    *("transpose", "permute", "move", "toeplitz", "toeplitz_adjoint"),
    *("pad", "reverse_taps", "convolve", "correlate", "depthwise", "depthwise_correlate"),
    *("pair_rows", "convolve_field", "convolve_field_bf16", "correlate_field", "correlate_field_bf16"),
    *("add", "elementwise", "barrier"),
    *("adamw", "sgd", "momentum", "orthogonal_update", "average", "sum_squares", "clip_factor", "scale"),
)
"""`kernels/` says what each does with its sizes and addresses."""
ACTIVATIONS: tuple[type[nn.Module], ...] = (
    *(nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.GELU, Clamp),
)
"""Each is a struct of the class's name in `kernels/`."""
LOSSES = ("mse", "l1", "huber")
PLAIN_FUNCTIONS = (
    *("exp", "log", "sqrt", "rsqrt", "reciprocal", "abs", "sign", "erf", "sin", "cos", "pow", "softplus"),
)
"""Functions of each element in groups of elementwise nodes: structs in `functions.h`."""
PAIRED_FUNCTIONS = (
    *("relu", "relu6", "leaky_relu", "elu", "silu", "tanh", "sigmoid", "gelu", "gelu_tanh"),
    *("clamp", "hardtanh"),
)
"""Further ones, which are computed together with their derivatives: `name'`."""
INSTRUCTIONS = (
    *("load", "store", "add", "multiply", "multiply_add", "keep", "add_scaled", "affine"),
    *("value", "both", "sum", "dot", "largest", "accumulate"),
)
"""Of a group of elementwise nodes: `elementwise.h` says what each does with its values."""
AXES = 6
"""The most axes of a copy, and of the loops of a group."""
VECTOR = 16
"""The most float32 of a vector."""
ABANDONED = 2**62
"""Value of a barrier's counter when one of its threads will not arrive."""
SIZES, ADDRESSES = 12, 16
"""The most that an operation takes."""
OPERATION = np.dtype(
    [("code", "i4"), ("n", "i4", SIZES), ("scale", "f4"), ("p", "u8", ADDRESSES)], align=True
)
"""The struct `Operation` of `kernels/`."""


class AdamWScalars(NamedTuple):
    """AdamW's scalars of one step, float32.

    Attributes:
        weight_decay_factor: 1 - learning rate · weight_decay.
        one_minus_beta1: 1 - beta1.
        one_minus_beta2: 1 - beta2.
        step_size: learning rate / bias_correction1.
        bias_correction2_factor: 1 / √bias_correction2.
        eps: added to the denominator.
    """

    weight_decay_factor: float
    one_minus_beta1: float
    one_minus_beta2: float
    step_size: float
    bias_correction2_factor: float
    eps: float


class SgdScalars(NamedTuple):
    """Scalars of a step of SGD with Nesterov momentum, float32.

    Attributes:
        learning_rate: of the step.
        momentum: factor of the sum of earlier gradients.
        weight_decay: factor of the parameters in the gradients.
    """

    learning_rate: float
    momentum: float
    weight_decay: float


class MuonScalars(NamedTuple):
    """Muon's scalars of one step, float32.

    Attributes:
        weight_decay_factor: 1 - learning rate · weight_decay.
        learning_rate: of the step.
    """

    weight_decay_factor: float
    learning_rate: float


SCALARS: tuple[Any, ...] = (AdamWScalars, SgdScalars, MuonScalars)
"""Each is a struct of its name in `kernels/`."""


def cpp_header() -> str:
    """Returns the text of `codes.h`."""
    a, b, c = COEFFICIENTS
    activations = " ".join(f"X({activation.__name__})" for activation in ACTIVATIONS)
    plain, paired = (" ".join(map(_as_macro, names)) for names in (PLAIN_FUNCTIONS, PAIRED_FUNCTIONS))
    return (
        "// Generated from codes.py.\n#pragma once\n"
        "#include <cstdint>\n"
        f"enum Code {{ {', '.join(OPERATIONS).upper()} }};\n"
        f"enum Loss {{ {', '.join(LOSSES).upper()} }};\n"
        f"#define ACTIVATIONS(X) {activations}\n"
        f"enum class InstructionCode {{ {', '.join(INSTRUCTIONS).upper()} }};\n"
        f"#define PLAIN_FUNCTIONS(X) {plain}\n"
        f"#define PAIRED_FUNCTIONS(X) {paired}\n"
        f"constexpr int SIZES = {SIZES}, ADDRESSES = {ADDRESSES};\n"
        f"constexpr int AXES = {AXES};\n"
        f"constexpr int64_t ABANDONED = {ABANDONED};\n"
        f"constexpr float NEWTON_SCHULZ_A = {a}f, NEWTON_SCHULZ_B = {b}f, NEWTON_SCHULZ_C = {c}f;\n"
        f"constexpr int NEWTON_SCHULZ_STEPS = {STEPS};\n"
        f"constexpr float SMALLEST_NORM = {SMALLEST_NORM}f, ADDED_TO_NORM = {ADDED_TO_NORM}f;\n"
        + "".join(f"struct {kind.__name__} {{ float {', '.join(kind._fields)}; }};\n" for kind in SCALARS)
    )


def _as_macro(name: str) -> str:
    """Returns the entry of a table for a function: its struct is called as the function, in camel case."""
    return f"X({name.title().replace('_', '')})"
