"""Every measure of a run, stated once.

MEASURES ─┬─▶ result.json: its keys, their types, how those of images are computed
          ├─▶ tables and averages: heading, format, whether shown unasked
          ├─▶ plots and the report: costs and the names of their axes
          ├─▶ TensorBoard: tags
          └─▶ docs/reports.md: unit, meaning, whether lower or higher is better

A new measure of reconstructions is one more entry here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mixcoder.text.values import format_count, format_shape

if TYPE_CHECKING:
    from torch import Tensor

Compare = Callable[["Tensor", "Tensor"], "Tensor | None"]
"""Compares reconstructions and images, both (B, C, H, W) in [0, 1]: (B,), or None where it cannot."""


@dataclass(frozen=True)
class Measure:
    """A figure of a run.

    Attributes:
        key: in `result.json`, in the rows of tables and on the command line.
        heading: above its column, without the unit.
        meaning: for the documents.
        format: returns a value as a text.
        unit: of the value; empty where it has none, or `format` writes it.
        type: of the value in `result.json`.
        better: whether a lower or a higher value is better; empty where neither is.
        is_averaged: whether `--average` takes the mean, rather than the value of the first run.
        is_shown: whether a table shows it unasked; "if known" leaves out a column without any value.
        is_vital: whether a table shows it however narrow the terminal is.
        tag: in TensorBoard, at the end of a run; empty for none.
        cost: its name for `mixcoder plot --pareto`; empty for a measure that is no cost of a model.
        cost_label: the text of the report's button.
        cost_axis: the label of the axis of a plot of costs.
        compare: computes it of reconstructions; None of what is measured otherwise.
        bits: of each number of a code, where it is the loss of rounded codes; else 0.
    """

    key: str
    heading: str
    meaning: str
    format: Callable[[Any], str]
    unit: str = ""
    type: Any = float
    better: Literal["lower", "higher", ""] = ""
    is_averaged: bool = False
    is_shown: Literal["always", "if known", "on request"] = "always"
    is_vital: bool = False
    tag: str = ""
    cost: str = ""
    cost_label: str = ""
    cost_axis: str = ""
    compare: Compare | None = None
    bits: int = 0

    @property
    def is_number(self) -> bool:
        """Returns whether a value is one number, and not a list of them."""
        return self.type in (int, float)


def format_loss(loss: float) -> str:
    """Returns 0.0064 as 0.0064000."""
    return f"{loss:.7f}"


def _psnr(reconstructions: Tensor, images: Tensor) -> Tensor:
    from mixcoder.pixels.quality import psnr  # torch is imported only where something is computed

    return psnr(reconstructions, images)


def _ssim(reconstructions: Tensor, images: Tensor) -> Tensor | None:
    from mixcoder.pixels.quality import ssim

    return ssim(reconstructions, images)


MEASURES = (
    Measure(
        "validation_loss",
        "validation loss",
        "the loss over all pixels of all validation images, at the end",
        format_loss,
        better="lower",
        is_averaged=True,
        is_vital=True,
    ),
    Measure(
        "best_validation_loss",
        "best validation loss",
        "the lowest on the way",
        format_loss,
        better="lower",
        is_averaged=True,
        is_shown="on request",
    ),
    Measure(
        "best_inputs",
        "best at",
        "images seen when the validation loss was lowest",
        format_count,
        type=int,
        is_shown="on request",
    ),
    Measure(
        "validation_loss_8_bits",
        "loss with 8 bits",
        "the validation loss from codes with 8 bits for each number",
        format_loss,
        better="lower",
        is_averaged=True,
        is_shown="on request",
        bits=8,
    ),
    Measure(
        "validation_loss_6_bits",
        "loss with 6 bits",
        "the validation loss from codes with 6 bits for each number",
        format_loss,
        better="lower",
        is_averaged=True,
        is_shown="on request",
        bits=6,
    ),
    Measure(
        "validation_loss_4_bits",
        "loss with 4 bits",
        "the validation loss from codes with 4 bits for each number",
        format_loss,
        better="lower",
        is_averaged=True,
        is_shown="on request",
        bits=4,
    ),
    Measure(
        "psnr",
        "PSNR",
        "peak signal-to-noise ratio, the mean over validation images, reconstructions clipped to [0, 1]",
        lambda decibels: f"{decibels:.2f}",
        unit="dB",
        better="higher",
        is_averaged=True,
        is_shown="if known",  # the results of early versions lack it
        tag="result/psnr",
        compare=_psnr,
    ),
    Measure(
        "ssim",
        "SSIM",
        "structural similarity, likewise, in Gaussian windows of 11 x 11, smaller for images below 11 pixels",
        lambda similarity: f"{similarity:.4f}",
        better="higher",
        is_averaged=True,
        is_shown="if known",  # small images have none
        tag="result/ssim",
        compare=_ssim,
    ),
    Measure("inputs", "inputs", "images seen in training", format_count, type=int),
    Measure(
        "params",
        "model params",
        "parameters of the model",
        format_count,
        type=int,
        better="lower",
        tag="result/params",
        cost="params",
        cost_label="parameters",
        cost_axis="parameters",
    ),
    Measure(
        "madds",
        "multiply-adds",
        "multiply-adds of one image, there and back",
        format_count,
        type=int,
        better="lower",
        is_shown="on request",
        cost="madds",
        cost_label="multiply-adds",
        cost_axis="multiply-adds of one image",
    ),
    Measure(
        "encode_madds",
        "encode",
        "multiply-adds of encoding one image, steps down the decoder's gradient included",
        format_count,
        unit="madds",
        type=int,
        better="lower",
        is_shown="on request",
        cost="encode_madds",
        cost_label="multiply-adds to encode",
        cost_axis="multiply-adds of encoding an image",
    ),
    Measure(
        "decode_madds",
        "decode",
        "multiply-adds of decoding one image",
        format_count,
        unit="madds",
        type=int,
        better="lower",
        is_shown="on request",
        cost="decode_madds",
        cost_label="multiply-adds to decode",
        cost_axis="multiply-adds of decoding an image",
    ),
    Measure(
        "train_madds",
        "train",
        "multiply-adds of one image in a training step, forward and backward",
        format_count,
        unit="madds",
        type=int,
        better="lower",
        is_shown="on request",
        cost="train_madds",
        cost_label="multiply-adds to train",
        cost_axis="multiply-adds of an image in a training step",
    ),
    Measure(
        "latent_shape",
        "latent shape",
        "sizes of the code of one image",
        format_shape,
        type=list[int],
        is_shown="on request",
    ),
    Measure(
        "compression_ratio",
        "ratio",
        "values of an image by values of its code",
        lambda ratio: f"{ratio:.4g}",
        is_shown="on request",
    ),
    Measure(
        "train_minutes",
        "train time",
        "time of training, warm-up included, without validation and checkpoints",
        lambda minutes: f"{minutes:.2f}",
        unit="minutes",
        better="lower",
        is_averaged=True,
        tag="speed/train_minutes",
        cost="time",
        cost_label="training time",
        cost_axis="minutes of training",
    ),
    Measure(
        "throughput",
        "throughput",
        "training images a second",
        lambda images: f"{images:,.0f}/s",
        better="higher",
        is_averaged=True,
        tag="speed/throughput",
    ),
)
"""What `result.json` states of a run and every table may show, in the order of a table's columns."""

COMPARISONS = (
    Measure("validation_loss_std", "std", "with `--average`: the loss's standard deviation", format_loss),
    Measure(
        "article_validation_loss",
        "the article's",
        "with `--against article`: its loss for the same model, data and recipe",
        format_loss,
        is_averaged=True,
    ),
    Measure(
        "difference",
        "difference",
        "with `--against article`: our loss by the article's, less one",
        lambda share: f"{share:+.1%}",
        better="lower",
        is_averaged=True,
    ),
)
"""What a table computes of several results, or of a result and the article's."""

_BETTER = 0.99
"""The lowest validation loss by the last one, below which a model was better before its end."""


def was_better_before(row: Mapping[str, Any]) -> bool:
    """Returns whether the validation loss of a result was lower on the way, by more than a hundredth."""
    last, best = row.get("validation_loss"), row.get("best_validation_loss")
    return isinstance(last, float) and isinstance(best, float) and best < _BETTER * last


COSTS = {measure.cost: measure for measure in MEASURES if measure.cost}
"""By the name that `mixcoder plot --pareto` takes."""

CURVE_TAGS = {
    "training_loss": "loss/training",
    "validation_loss": "loss/validation",
    "learning_rate": "schedule/learning_rate",
}
"""TensorBoard's tags of what a row of metrics states while a run trains."""


def measure(key: str) -> Measure:
    """Returns the measure called `key`."""
    return next(each for each in (*MEASURES, *COMPARISONS) if each.key == key)
