"""Prints the loss of a trained model's reconstructions by the number of its refinement's steps.

    python -m benchmarks.refinement_steps mixcoder-50k-mnist 0 1 2 3 4 5 8

The images are the validation images of MNIST. The model is one network: the first row is its encoder's guess.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from mixcoder.backends.losses import LOSSES
from mixcoder.data import ImageSplit, load_data, to_float
from mixcoder.inference.coding import Coding
from mixcoder.inference.trained import open_model
from mixcoder.models.autoencoder import Autoencoder
from mixcoder.pixels.quality import psnr
from mixcoder.text.table import Column, to_markdown
from mixcoder.training.evaluation import evaluating, validation_batches

_COLUMNS = (
    Column("steps", "steps", is_number=True),
    Column("loss", "validation loss", "{:.5g}".format, is_number=True),
    Column("psnr", "PSNR (dB)", "{:.2f}".format, is_number=True),
)


def losses_by_steps(model: Autoencoder, split: ImageSplit, steps: Sequence[int]) -> list[dict[str, float]]:
    """Returns for each of `steps` the mean squared error and the mean PSNR of all images.

    Args:
        model: with a refinement.
        split: images (N, C, H, W) uint8.
        steps: numbers from 0.
    """
    rows = []
    for each in steps:
        errors, decibels = [], []
        with evaluating(model, split.device):
            for batch in validation_batches(split):
                images = to_float(batch)
                copies = Coding(each).reconstruct(model, images)
                errors.append(LOSSES["mse"](copies, images, reduction="sum").item())
                decibels.append(psnr(copies.clamp(0, 1), images).sum().item())
        loss, decibel = sum(errors) / split.images.numel(), sum(decibels) / len(split)
        rows.append({"steps": each, "loss": loss, "psnr": decibel})
    return rows


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", help="run directory, or the name of a trained model")
    parser.add_argument("steps", type=int, nargs="+", help="numbers of steps, from 0")
    options = parser.parse_args()
    rows = losses_by_steps(open_model(options.model), load_data("mnist").validation, options.steps)
    print(to_markdown(rows, _COLUMNS))


if __name__ == "__main__":
    main()
