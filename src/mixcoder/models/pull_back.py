"""The gradient of a function within a model's forward, such as that of the decoder at a latent.

    z = encode(x)
    g = pull_back(decode, z, error)     J(z)ᵀ error(decode(z)), J the Jacobian of decode
    z ← z - step · g                    a latent that decodes to something nearer to x

Source: a step from zero in place of an encoder is that of "Gradient Origin Networks", arXiv 2007.02798; steps
from an encoder's latent, trained through, that of "Iterative Amortized Inference", arXiv 1807.09356.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import vjp
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import handle_torch_function, has_torch_function_unary

from mixcoder.errors import ArgumentError
from mixcoder.torch_private import is_within_transform

_Function = Callable[[Tensor], Tensor]
_OF_INFERENCE_MODE = (
    "the model has weights made in torch.inference_mode(); build, copy or convert it outside that mode"
)


def pull_back(function: _Function, point: Tensor, cotangent: _Function) -> Tensor:
    """Returns J(point)ᵀ · cotangent(function(point)), J the Jacobian of `function`: of the shape of `point`.

    With `cotangent` as y ↦ y - x, this is the gradient of ‖function(point) - x‖² / 2. A model can use it in
    its forward, and is trained through it, second derivatives included, by every backend:

        def _encode(self, images):
            latents = self.encoder(images)
            step = mixcoder.pull_back(self.decoder, latents, lambda decoded: decoded - images)
            return latents - self.rate * step

    It works without recorded gradients too, as in `torch.no_grad` and in `torch.inference_mode`.

    Args:
        function: of a tensor of the shape of `point`; a module, for example. What else it uses, such as its
            parameters, is constant in J, and is trained.
        point: where the Jacobian is taken.
        cotangent: of the function's result, to a tensor of its shape. It is not derived for J.

    Raises:
        ArgumentError: weights are tensors of inference mode, and it is left.
    """
    if has_torch_function_unary(point):  # a backend has an operation for it
        overridden: Tensor = handle_torch_function(pull_back, (point,), function, point, cotangent)
        return overridden
    with sdpa_kernel(SDPBackend.MATH):  # torch's other forms of attention have no second derivatives
        if torch.is_inference_mode_enabled() or is_within_transform():
            return _transformed(function, point, cotangent)
        try:
            return _recorded(function, point, cotangent)
        except RuntimeError as error:
            if "Inference tensors cannot be saved for backward" not in str(error):
                raise
            raise ArgumentError("", _OF_INFERENCE_MODE) from error


def _transformed(function: _Function, point: Tensor, cotangent: _Function) -> Tensor:
    """Returns the gradient by a function of `torch.func`."""
    result, back, *_ = vjp(function, point)
    gradient: Tensor = back(cotangent(result))[0]
    return gradient


def _recorded(function: _Function, point: Tensor, cotangent: _Function) -> Tensor:
    """Returns the gradient by what autograd records."""
    is_recorded = torch.is_grad_enabled()
    with torch.enable_grad():
        source = point if point.requires_grad else point.detach().clone().requires_grad_()
        argument = source.clone()  # other uses of `point` are no part of the function
        result = function(argument)
        if not result.requires_grad:
            return torch.zeros_like(point)
        with torch.set_grad_enabled(is_recorded):
            seed = cotangent(result if is_recorded else result.detach())
        [gradient] = torch.autograd.grad(
            result, argument, seed, create_graph=is_recorded, materialize_grads=True
        )
    return gradient
