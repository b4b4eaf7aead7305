"""Which parameters are matrices: to an optimizer such as Muon they are more than their elements.

A module may say so itself, for its own parameters:

    class Factors(nn.Module):
        optimized_as = {"rows": "matrices", "shift": "vector"}

"matrix" is one matrix, all axes but the first flattened, as of a convolution; "matrices" are as many as the
axes before the last two count; "vector" is none. Without a word, a parameter with two or more axes longer
than 1 is a matrix, unless its name has `bias` in it.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from mixcoder.errors import ArgumentError

_KINDS = ("matrix", "matrices", "vector")


class MatrixShape(NamedTuple):
    """The equal matrices (batch, rows, columns) that a parameter is made of."""

    batch: int
    rows: int
    columns: int

    @property
    def elements(self) -> int:
        """Elements of all matrices."""
        return self.batch * self.rows * self.columns


def matrix_shapes(model: nn.Module) -> dict[nn.Parameter, MatrixShape]:
    """Returns the parameters of a model that are matrices, with their shapes.

    Raises:
        ArgumentError: a module's `optimized_as` names no parameter of it, or no kind that there is.
    """
    shapes: dict[nn.Parameter, MatrixShape] = {}
    for path, module in model.named_modules():
        parameters = dict(module.named_parameters(recurse=False))
        kinds = getattr(module, "optimized_as", {})
        for name, kind in kinds.items():
            _check_kind(path or type(module).__name__, name, kind, parameters)
        for name, parameter in parameters.items():
            shape = _shape_of(parameter, kinds.get(name) or _usual_kind(name, parameter))
            if shape and parameter.numel():
                shapes.setdefault(parameter, shape)
    return shapes


def _usual_kind(name: str, parameter: nn.Parameter) -> str:
    long_axes = sum(size > 1 for size in parameter.shape)
    return "matrix" if long_axes >= 2 and "bias" not in name else "vector"


def _shape_of(parameter: nn.Parameter, kind: str) -> MatrixShape | None:
    shape = parameter.shape
    match kind:
        case "matrix":
            return MatrixShape(1, shape[0], shape[1:].numel())
        case "matrices":
            return MatrixShape(shape[:-2].numel(), shape[-2], shape[-1])
    return None


def _check_kind(module: str, name: str, kind: object, parameters: dict[str, nn.Parameter]) -> None:
    """Checks an entry of `optimized_as`.

    Raises:
        ArgumentError: there is no such parameter, kind, or it has too few axes for it.
    """
    where = f"optimized_as of {module}"
    if name not in parameters:
        raise ArgumentError("", f"{where} names {name}, which is no parameter of its own")
    if kind not in _KINDS:
        raise ArgumentError("", f"{where} has {kind!r} for {name}; it takes {', '.join(_KINDS)}")
    if kind != "vector" and parameters[name].ndim < 2:
        raise ArgumentError("", f"{where} makes {name} a {kind}, but it has fewer than two axes")
