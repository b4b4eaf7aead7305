"""The contract of every model.

images (B, C, H, W) in [0, 1] ──encode──▶ latents (B, *latent_shape) ──decode──▶ images (B, C, H, W)

encode is `_encode`, then `refinement` where there is one.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from mixcoder.errors import ArgumentError, describe_type
from mixcoder.models.code_refinement import CodeRefinement, check_steps
from mixcoder.pixels.shape import ImageShape
from mixcoder.text.sanitize import sanitize

LARGEST_SIDE = 65_536


class Autoencoder(nn.Module, ABC):
    """A model that maps images to latents and back, and raises a clear error for what it cannot take.

    A subclass sets `image_shape` and `latent_shape` and implements `_encode` and `_decode`. One that ends in
    an activation of the pixels implements `_decode_before_output` and `_output` in place of `_decode`, so
    that a refinement of its codes leaves that activation out of its gradients.

    Attributes:
        image_shape: (C, H, W) of the images it is made for.
        latent_shape: shape of one image's latent.
        refinement: of the latents by the decoder, which `encode` does; None for none.
        made_as: the name and the arguments that `create_model` made it of; None where it did not.
        example: arguments that build a typical one, for `mixcoder models show`.
        sized_by: the arguments to make smaller where there is not the memory for it.
    """

    image_shape: ImageShape
    latent_shape: tuple[int, ...]
    example: ClassVar[Mapping[str, Any]] = {}
    sized_by: ClassVar[Sequence[str]] = ()

    def __init__(self) -> None:
        super().__init__()
        _check_decoder(type(self))
        self.refinement: CodeRefinement | None = None
        self.made_as: tuple[str, dict[str, Any]] | None = None

    @abstractmethod
    def _encode(self, images: Tensor) -> Tensor:
        """Returns latents (B, *latent_shape) of images whose shape was checked."""

    def _decode(self, latents: Tensor) -> Tensor:
        """Returns images (B, C, H, W) of latents whose shape was checked."""
        return self._output(self._decode_before_output(latents))

    def _decode_before_output(self, latents: Tensor) -> Tensor:
        """Returns what the output activation takes, (B, C, H, W); without one, the images."""
        return self._decode(latents)

    def _output(self, values: Tensor) -> Tensor:
        """Returns images (B, C, H, W) of what `_decode_before_output` returns."""
        return values

    @property
    def compression_ratio(self) -> float:
        """Elements of an image for each element of its latent."""
        return math.prod(self.image_shape) / math.prod(self.latent_shape)

    def encode(self, images: Tensor, steps: int | None = None) -> Tensor:
        """Returns latents (B, *latent_shape) of images (B, C, H, W), floating point in [0, 1].

        Args:
            images: to encode.
            steps: of refinement; None for those that the model was trained with, 0 for the encoder alone.
                Further steps than these repeat the last one.

        Raises:
            ArgumentError: the images are no tensor, integers, or of a type or shape this model does not take;
                or there are steps for a model without `refine`.
        """
        _check_tensor("images", images, self)
        if not images.is_floating_point():
            raise ArgumentError(
                "",
                f"images must be floating point in [0, 1], got {images.dtype}; "
                "convert them, for uint8 with images.float() / 255",
            )
        self._check_images(images)
        check_steps(steps, self.refinement)
        latents = self._encode(images)
        if self.refinement is None:
            return latents
        refined: Tensor = self.refinement(images, latents, self._decode_before_output, self._output, steps)
        return refined

    def decode(self, latents: Tensor) -> Tensor:
        """Returns images (B, C, H, W) of latents (B, *latent_shape); not clipped to [0, 1].

        Raises:
            ArgumentError: the latents are no tensor, or of a type or shape this model does not take.
        """
        _check_tensor("latents", latents, self)
        self._check_latents(latents)
        return self._decode(latents)

    def forward(self, images: Tensor) -> Tensor:
        """Returns the reconstructions: `decode(encode(images))`, shape (B, C, H, W)."""
        return self.decode(self.encode(images))

    def _check_images(self, images: Tensor) -> None:
        _check_shape("images", images, self.image_shape)

    def _check_latents(self, latents: Tensor) -> None:
        _check_shape("latents", latents, self.latent_shape)


def _check_decoder(model: type[Autoencoder]) -> None:
    """Checks that a class has a decoder: each of the two methods of `Autoencoder` calls the other one.

    Raises:
        ArgumentError: it has none; says what to implement.
    """
    if all(
        getattr(model, half) is getattr(Autoencoder, half) for half in ("_decode", "_decode_before_output")
    ):
        raise ArgumentError(
            "",
            f"{model.__name__} has no decoder; implement `_decode`, or `_decode_before_output` and `_output`",
        )


def as_autoencoder(model: object) -> Autoencoder:
    """Returns the autoencoder itself, which `torch.compile` or `DataParallel` may have wrapped.

    Raises:
        ArgumentError: it is none, or holds no numbers yet.
    """
    inner = model
    while isinstance(inner, nn.Module) and not isinstance(inner, Autoencoder):
        wrapped = (getattr(inner, name, None) for name in ("_orig_mod", "module"))
        inner = next((module for module in wrapped if isinstance(module, nn.Module)), None)
    if not isinstance(inner, Autoencoder):
        raise ArgumentError(
            "",
            "the model must be a mixcoder.Autoencoder, such as create_model and load give, "
            f"got {describe_type(model)}",
        )
    if any(map(is_lazy, inner.parameters())):
        raise ArgumentError("", "the model's layers have no shapes yet; call model(images) once before")
    if any(tensor.is_meta for tensor in chain(inner.parameters(), inner.buffers())):
        raise ArgumentError("", "the model is on the meta device and holds no numbers; build it on another")
    return inner


def device_and_dtype(model: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Returns the device and floating-point type of a model's first weights, in which it computes."""
    tensors = chain(model.parameters(), model.buffers())
    first = next((tensor for tensor in tensors if tensor.is_floating_point()), None)
    return (torch.device("cpu"), torch.float32) if first is None else (first.device, first.dtype)


def _check_tensor(noun: str, batch: object, model: nn.Module) -> None:
    if not isinstance(batch, Tensor):
        hint = f"; torch.from_numpy({noun}) makes one of an array" if hasattr(batch, "__array__") else ""
        raise ArgumentError("", f"{noun} must be a torch.Tensor, got {describe_type(batch)}{hint}")
    if batch.dtype == torch.float64 and device_and_dtype(model)[1] != torch.float64:  # as arrays mostly are
        raise ArgumentError("", f"{noun} are torch.float64 and the model's weights are not; {noun}.float()")


def _check_shape(noun: str, batch: Tensor, expected: tuple[int, ...]) -> None:
    if tuple(batch.shape[1:]) != expected:
        raise ArgumentError(
            "", f"{noun} must have shape (B, {', '.join(map(str, expected))}), got {tuple(batch.shape)}"
        )


def check_image_shape(image_shape: object) -> ImageShape:
    """Returns `image_shape` as three positive whole numbers (C, H, W).

    Raises:
        ArgumentError: it is anything else.
    """
    if (
        not isinstance(image_shape, tuple | list)
        or len(image_shape) != 3
        or not all(type(size) is int and 0 < size <= LARGEST_SIDE for size in image_shape)
    ):
        raise ArgumentError(
            "image_shape",
            f"must be three whole numbers (channels, height, width) from 1 to {LARGEST_SIDE:,}, "
            f"got {sanitize(str(image_shape))}",
        )
    channels, height, width = image_shape
    return channels, height, width
