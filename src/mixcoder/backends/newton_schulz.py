"""Newton-Schulz steps, which bring the singular values of matrices near 1 (K. Jordan 2024)."""

from __future__ import annotations

import torch
from torch import Tensor

from mixcoder.backends.matrices import MatrixShape

COEFFICIENTS = (3.4445, -4.775, 2.0315)
"""a, b, c of the polynomial a·s + b·s³ + c·s⁵ that each step applies to singular values s."""
STEPS = 5
SMALLEST_NORM = 1e-7


def count_orthogonalizing_madds(shape: MatrixShape) -> int:
    """Returns the multiply-adds of all steps for matrices of a shape."""
    short, long = sorted(shape[1:])
    near_square = STEPS * (2 * short**2 * long + short**3)
    squares = 17 * short**3  # of gram matrices: four products a step, but for three that are not needed
    return shape.batch * min(near_square, squares + 2 * short**2 * long)


def orthogonalize(matrices: Tensor) -> Tensor:
    """Returns matrices (batch, rows, columns) with their singular values brought near 1: to 0.7 … 1.2.

    Products are float32 on the CPU, bfloat16 on a GPU.
    """
    is_high = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if is_high else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=SMALLEST_NORM)
    x = x.bfloat16() if x.is_cuda else x
    is_long = 2 * x.shape[2] > 3 * x.shape[1] and x.dtype == torch.float32
    x = _long_steps(x) if is_long else _near_square_steps(x)
    return (x.mT if is_high else x).to(matrices.dtype)


def _near_square_steps(x: Tensor) -> Tensor:
    """Returns x (batch, m, n), m <= n, after all steps."""
    a, b, c = COEFFICIENTS
    for _ in range(STEPS):
        gram = x @ x.mT  # (batch, m, m)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _long_steps(x: Tensor) -> Tensor:
    """Returns the same for m < n, of polynomials on gram matrices (batch, m, m) alone.

    A square of singular values needs the precision of float32.
    """
    a, b, c = COEFFICIENTS
    gram = x @ x.mT
    power = None
    for _ in range(STEPS):
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        polynomial.diagonal(dim1=1, dim2=2).add_(a)
        power = polynomial if power is None else polynomial @ power
        gram = polynomial @ gram @ polynomial
    return x if power is None else power @ x
