"""Data of a Python program's own images: `mixcoder.images(array)`.

    images ─┬─ a share, chosen by a fixed seed ─▶ validation
            └─ the others ──────────────────────▶ train

Of the same images, the same ones validate on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping

from mixcoder.data.holdout import held_out_indices
from mixcoder.data.rows import Rows, read_labels, read_rows, warn_of_conversion
from mixcoder.data.split import ImageData, ImageSplit
from mixcoder.errors import ArgumentError, describe_type
from mixcoder.pixels.shape import ImageShape

_VALIDATION_KEYS = ("validation", "test")
"""Names under which a dictionary of data sets keeps the images that validate, the likeliest first."""


def images(
    train: object,
    validation: object = None,
    labels: object = None,
    *,
    validation_labels: object = None,
    validation_share: float = 0.1,
    name: str = "images",
) -> ImageData:
    """Returns images of your own as data to train on, in any form that Python programs hold them in.

    Values are uint8, bool, or floats in [0, 1]; anything but uint8 is converted to uint8, with a warning.

        data = mixcoder.images(array)                          # (N, H, W), (N, H, W, C) or (N, C, H, W)
        data = mixcoder.images(dataset)                        # rows of (image, label), as torchvision's
        data = mixcoder.images(load_dataset("ylecun/mnist"))   # train and test of the hub's

    Args:
        train: a numpy array, a tensor, a list of these or of PIL images, a data set whose rows are images,
            pairs of image and label, or dictionaries with one image; or a dictionary of such, with the keys
            `train` and `validation` or `test`.
        validation: likewise; without it a share of `train` validates, the same one for everybody.
        labels: whole numbers, one a training image, in place of those of a data set.
        validation_labels: likewise, of `validation`.
        validation_share: of the training images, where `validation` is left out.
        name: of the data, as results and tables say it.

    Raises:
        ArgumentError: it is something else; says what, and what would be right.
    """
    if isinstance(train, Mapping):
        train, validation = _sides(train, validation)
    training = _split(train, labels, "train", "labels")
    if validation is not None:
        shape = training.image_shape
        validating = _split(validation, validation_labels, "validation", "validation_labels", shape)
        return ImageData(name, training, validating)
    if validation_labels is not None:
        raise ArgumentError("validation_labels", "needs validation; labels go along where images are divided")
    indices = held_out_indices(len(training), _share(training, validation_share))
    return ImageData(name, *training.hold_out(indices))


def _sides(sets: Mapping[object, object], validation: object) -> tuple[object, object]:
    """Returns the training and the validation images of a dictionary of data sets."""
    if validation is not None:
        raise ArgumentError("validation", "is given twice: train is a dictionary with sets of its own")
    if "train" not in sets:
        found = ", ".join(map(str, sets)) or "none"
        raise ArgumentError("train", f"is a dictionary without the key train; found {found}")
    return sets["train"], next((sets[key] for key in _VALIDATION_KEYS if key in sets), None)


def _split(
    given: object, labels: object, argument: str, labels_argument: str, shape: ImageShape | None = None
) -> ImageSplit:
    """Returns images and their labels, those of the caller before those of the data set."""
    if isinstance(given, ImageSplit):
        split = given
    elif isinstance(given, ImageData):
        raise ArgumentError(argument, "is ImageData already, which goes to mixcoder.train as it is")
    else:
        rows = read_rows(given, argument, shape)
        _check_brightness(rows, argument)
        if rows.converted:
            warn_of_conversion(argument, rows.converted, stacklevel=4)
        split = ImageSplit(rows.images, rows.labels)
    if labels is None:
        return split
    return ImageSplit(split.images, read_labels(labels, labels_argument, len(split)))


def _check_brightness(rows: Rows, argument: str) -> None:
    """Checks that images are not zeros and ones in uint8, where 255 is white.

    Raises:
        ArgumentError: they are.
    """
    if not rows.converted and int(rows.images.max()) == 1:
        hint = "images * 255, or bool, is right for zeros and ones"
        raise ArgumentError(argument, f"its largest value is 1, where 255 is white; {hint}")


def _share(training: ImageSplit, share: float) -> int:
    """Returns how many training images validate: at least one, and not all.

    Raises:
        ArgumentError: the share is none, or there is a single image.
    """
    if not isinstance(share, float) or not 0 < share < 1:
        found = share if isinstance(share, int | float) else describe_type(share)
        raise ArgumentError("validation_share", f"must lie between 0 and 1, not {found}")
    if len(training) < 2:
        raise ArgumentError("train", "holds a single image, of which none can be set apart; state validation")
    return min(max(1, round(share * len(training))), len(training) - 1)
