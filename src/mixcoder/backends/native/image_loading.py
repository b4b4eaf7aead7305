"""Loads the images of a batch as floats, in the order in which a network reads them: one gather.

uint8 images (B, C, H, W) ─positions─▶ float in [0, 1]: (outer, B, inner)
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from mixcoder.backends.native.graph import Node
from mixcoder.backends.native.placing import Place, dense_place
from mixcoder.backends.native.program import Program
from mixcoder.backends.step import UnsupportedError


class ImageLoader:
    """The images of a batch in memory; each order of their elements is loaded but once.

    Args:
        program: to emit to.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._loaded: dict[Hashable, int] = {}

    def load(self, node: Node, order: Sequence[int]) -> Place:
        """Returns the place of a movement of the images, its elements in an order of its axes; loads it now.

        Raises:
            UnsupportedError: the movement takes images apart in a way that one gather cannot follow.
        """
        batch, *image = _images_of(node).shape
        pixels = torch.Size(image).numel()
        positions = _positions(node).permute(tuple(order)).reshape(-1)  # of elements in all images
        index = _per_image(positions, batch, pixels)  # (outer, inner)
        name = (*index.shape, index.numpy().tobytes())
        if name not in self._loaded:
            self._loaded[name] = self._program.buffer(len(positions))
            sizes = [batch, pixels, *index.shape]
            self._program.emit("load_patches", sizes, [self._program.keep(index), self._loaded[name]])
        return dense_place(self._loaded[name], node.shape, order)


def _images_of(node: Node) -> Node:
    return _images_of(node.inputs[0]) if node.inputs else node


def _positions(node: Node) -> Tensor:
    """Returns, for each element of a movement of the images, its position in the whole batch."""
    if not node.inputs:
        return torch.arange(node.size, dtype=torch.int32).view(node.shape)
    x = _positions(node.inputs[0])
    match node.operation, node.attributes:
        case "permute", (axes,):
            return x.permute(axes)
        case "expand", (shape,):
            return x.expand(shape)
        case "reshape", (shape,):
            return x.reshape(shape)
        case "slice", (axis, start, stop):
            return x.narrow(axis, start, stop - start)
    return x


def _per_image(positions: Tensor, batch: int, pixels: int) -> Tensor:
    """Returns the positions within an image (outer, inner), where elements lie as (outer, B, inner).

    Raises:
        UnsupportedError: they lie in another way.
    """
    image = positions // pixels
    changes = torch.nonzero(image != image[0])
    inner = int(changes[0]) if len(changes) else len(positions)
    outer = len(positions) // (inner * batch)
    if outer * inner * batch == len(positions):
        index = positions.view(outer, batch, inner)
        if torch.equal(index, index[:, :1] + pixels * torch.arange(batch, dtype=torch.int32).view(-1, 1)):
            return index[:, 0].contiguous()
    raise UnsupportedError("an order of pixels that differs from image to image")
