"""Prints the loss of a principal component analysis: no linear auto-encoder has a lower one.

    python -m benchmarks.pca mnist 8 16 32 64

It is fitted to the training images. Its mean squared error is that of the validation images, as a model's is.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence

import numpy as np
from torch import Tensor

from mixcoder.data import ImageSplit, load_data, to_float

_CHUNK = 4096
"""Images in memory as float64 at a time."""


def pca_losses(train: Tensor, validation: Tensor, sizes: Sequence[int]) -> list[float]:
    """Returns the validation loss of a code of each of `sizes` numbers.

    Args:
        train: images (N, C, H, W) uint8, to fit the components to.
        validation: images (M, C, H, W) uint8.
        sizes: at most C·H·W each.
    """
    mean, axes = _components(train)
    kept = [axes[:, :size] for size in sizes]
    errors = np.zeros(len(sizes))
    for chunk in _chunks(validation):
        centred = chunk - mean
        for index, basis in enumerate(kept):
            rest = centred - centred @ basis @ basis.T  # (n, C·H·W)
            errors[index] += np.square(rest).sum()
    return [float(error / validation.numel()) for error in errors]


def _components(images: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean (D,) and the principal axes (D, D) as columns, the most important first."""
    count, elements = len(images), images[0].numel()
    total, products = np.zeros(elements), np.zeros((elements, elements))
    for chunk in _chunks(images):
        total += chunk.sum(0)
        products += chunk.T @ chunk
    mean = total / count
    _, axes = np.linalg.eigh(products / count - np.outer(mean, mean))
    return mean, axes[:, ::-1]


def _chunks(images: Tensor) -> Iterator[np.ndarray]:
    for start in range(0, len(images), _CHUNK):
        chunk = images[start : start + _CHUNK]
        yield to_float(chunk).flatten(1).double().numpy()


def main() -> None:
    """Prints a line for each size of the code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", help="a data source, such as mnist")
    parser.add_argument("sizes", type=int, nargs="+", help="numbers of a code")
    arguments = parser.parse_args()
    data = load_data(arguments.source)
    if not isinstance(data.train, ImageSplit):
        parser.error(f"{arguments.source} has no images of one size to fit to")
    losses = pca_losses(data.train.images, data.validation.images, arguments.sizes)
    for size, loss in zip(arguments.sizes, losses, strict=True):
        print(f"{size:5d} numbers: {loss:.6f}")


if __name__ == "__main__":
    main()
