"""Images cut into square patches, and put together again.

(B, C, H, W)  ──Patchify──▶  (B, P, C·p·p)   with P = rows·columns = (H/p)·(W/p)
(B, P, C·p·p) ──Unpatchify─▶ (B, C, H, W)
"""

from __future__ import annotations

from torch import Tensor, nn

from mixcoder.errors import ArgumentError
from mixcoder.pixels.shape import ImageShape

Grid = tuple[int, int]


def patch_grid(image_shape: ImageShape, patch_size: int) -> Grid:
    """Returns the rows and columns of patches in an image; they may differ.

    Raises:
        ArgumentError: the patches do not tile the image; says which sizes would.
    """
    _, height, width = image_shape
    if patch_size < 1 or height % patch_size or width % patch_size:
        fitting = [size for size in range(1, min(height, width) + 1) if height % size == width % size == 0]
        raise ArgumentError(
            "patch_size",
            f"patches of {patch_size} x {patch_size} pixels do not tile an image of {height} x {width}; "
            f"these sizes do: {', '.join(map(str, fitting))}",
        )
    return height // patch_size, width // patch_size


def patch_major(x: Tensor) -> Tensor:
    """Returns x (B, P, C), laid out in memory with all images of one patch together.

    So a per-patch layer and a token-mixing layer are one matmul over all images, without moving x.
    """
    return x.transpose(0, 1).contiguous().transpose(0, 1)


class Patchify(nn.Module):
    """A layer (B, C, H, W) → (B, P, C·p·p): patches row by row, each flattened as channel, row, column.

    The result is `patch_major`.
    """

    def __init__(self, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size

    def forward(self, images: Tensor) -> Tensor:
        batch, channels, height, width = images.shape
        size = self.patch_size
        rows, columns = height // size, width // size
        x = images.reshape(batch, channels, rows, size, columns, size)  # (B, C, rows, p, columns, p)
        x = x.permute(2, 4, 0, 1, 3, 5)  # (rows, columns, B, C, p, p)
        x = x.reshape(rows * columns, batch, channels * size * size)  # (P, B, C·p·p)
        return x.transpose(0, 1)  # (B, P, C·p·p)

    def extra_repr(self) -> str:
        return f"patch_size={self.patch_size}"


class Unpatchify(nn.Module):
    """A layer (B, P, C·p·p) → (B, C, H, W): the inverse of `Patchify` for images of `image_shape`."""

    def __init__(self, image_shape: ImageShape, patch_size: int) -> None:
        super().__init__()
        self.image_shape = image_shape
        self.patch_size = patch_size

    def forward(self, patches: Tensor) -> Tensor:
        channels, height, width = self.image_shape
        size = self.patch_size
        x = patches.transpose(0, 1)  # (P, B, C·p·p)
        x = x.reshape(height // size, width // size, -1, channels, size, size)
        x = x.permute(2, 3, 0, 4, 1, 5)  # (B, C, rows, p, columns, p)
        return x.reshape(-1, channels, height, width)  # (B, C, H, W)

    def extra_repr(self) -> str:
        return f"image_shape={self.image_shape}, patch_size={self.patch_size}"
