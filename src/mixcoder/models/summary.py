"""A model layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mixcoder.models.autoencoder import Autoencoder, device_and_dtype
from mixcoder.models.modes import evaluation_mode

Row = dict[str, Any]


def count_parameters(model: Autoencoder) -> int:
    """Returns how many elements training changes."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def layer_rows(model: Autoencoder) -> list[Row]:
    """Returns a row for each layer that data flows through, in that order, then what else holds parameters.

    That is a layer whose weights a function takes, such as `F.linear(x, self.layer.weight)`, or parameters
    beside a module's own layers. Parameters are counted where they come first, also those of a layer that is
    called twice or shares them, so that the rows add up to `count_parameters`.

    Args:
        model: may be on the meta device; nothing is computed but shapes there.

    Returns:
        Rows with `layer` (its name in the state dict), `module`, `output_shape` (of one image; None where
        nothing flows through) and `params`.
    """
    rows: list[Row] = []
    counted: set[int] = set()
    names = {module: name for name, module in model.named_modules()}

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        params = _count_once(module.parameters(), counted)
        rows.append(_row(names[module], _describe(module), _shape(output), params))

    layers = [module for module in model.modules() if _is_layer(module)]
    with _hooked(layers, note), evaluation_mode(model):
        device, dtype = device_and_dtype(model)
        model(torch.zeros(1, *model.image_shape, device=device, dtype=dtype))
    return rows + list(_rows_beside(model, layers, counted))


def _is_layer(module: nn.Module) -> bool:
    return not list(module.children()) and not isinstance(module, nn.Identity)


@contextmanager
def _hooked(layers: list[nn.Module], note: Any) -> Iterator[None]:
    handles = [layer.register_forward_hook(note) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _rows_beside(model: Autoencoder, layers: list[nn.Module], counted: set[int]) -> Iterator[Row]:
    """Yields rows of the parameters that have not been counted yet, a layer's together."""
    for name, module in model.named_modules():
        named = module.named_parameters(recurse=False)
        own = {key: parameter for key, parameter in named if id(parameter) not in counted}
        if own and module in layers:
            yield _row(name, _describe(module), None, _count_once(own.values(), counted))
        elif own:
            for key, parameter in own.items():
                sizes = " x ".join(map(str, parameter.shape))
                full_name = f"{name}.{key}" if name else key
                yield _row(full_name, f"Parameter({sizes})", None, _count_once([parameter], counted))


def _count_once(parameters: Any, counted: set[int]) -> int:
    """Returns how many elements training changes in parameters not in `counted`, and adds them there."""
    new = [parameter for parameter in parameters if id(parameter) not in counted]
    counted.update(map(id, new))
    return sum(parameter.numel() for parameter in new if parameter.requires_grad)


def _row(layer: str, module: str, output_shape: list[int] | None, params: int) -> Row:
    return {"layer": layer, "module": module, "output_shape": output_shape, "params": params}


def _shape(output: Any) -> list[int] | None:
    """Returns the shape of one image's output; of several, as of a recurrent layer, the first one's."""
    first = output[0] if isinstance(output, tuple | list) and output else output
    return list(first.shape[1:]) if isinstance(first, Tensor) else None


def _describe(module: nn.Module) -> str:
    return " ".join(str(module).split())
