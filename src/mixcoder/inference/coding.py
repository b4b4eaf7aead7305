"""How a model codes images: the steps of refinement, and the levels to which codes are rounded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from torch import Tensor

from mixcoder.inference.image_stream import ImageBatch
from mixcoder.inference.trained import as_model_input
from mixcoder.models.autoencoder import Autoencoder
from mixcoder.models.code_grid import CodeGrid, CodeRange, check_bits
from mixcoder.models.code_refinement import check_steps
from mixcoder.models.modes import evaluation_mode


@dataclass(frozen=True)
class Coding:
    """A way from images to codes.

    Attributes:
        steps: of refinement; None for those that the model was trained with.
        grid: rounds codes; None for codes as they are.
    """

    steps: int | None = None
    grid: CodeGrid | None = None

    def encode(self, model: Autoencoder, images: Tensor) -> Tensor:
        """Returns the latents (B, *latent_shape) of images as the model takes them.

        Raises:
            ArgumentError: there are steps, and the model has no refinement.
        """
        check_steps(self.steps, model.refinement)
        is_as_trained = self.steps is None or model.refinement is None  # also a plugin's without `steps`
        latents = model.encode(images) if is_as_trained else model.encode(images, self.steps)
        return latents if self.grid is None else self.grid.rounded(latents)

    def reconstruct(self, model: Autoencoder, images: Tensor) -> Tensor:
        """Returns the reconstructions (B, C, H, W), not clipped to [0, 1].

        Raises:
            ArgumentError: there are steps, and the model has no refinement.
        """
        return model(images) if self == AS_TRAINED else model.decode(self.encode(model, images))


AS_TRAINED = Coding()


def with_bits(coding: Coding, bits: int | None, model: Autoencoder, batches: Iterable[ImageBatch]) -> Coding:
    """Returns the coding that rounds to `bits` bits between the extremes of these images' codes.

    Args:
        coding: without a grid.
        bits: of each number, 1 to 16; None for none, and then no image is read.
        model: encodes each image once, and no code is kept.
        batches: of the images, at least one.

    Raises:
        ArgumentError: there are no such bits, or a code is not finite.
    """
    check_bits(bits)
    if bits is None:
        return coding
    found = CodeRange()
    for batch in batches:
        with evaluation_mode(model):
            found.include(coding.encode(model, as_model_input(batch.images, model)))
    return replace(coding, grid=found.grid(bits))
