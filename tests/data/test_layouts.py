"""Axes and values of arrays of images: what can be read in one way is taken, all else is a sentence."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mixcoder.data.layouts import to_images
from mixcoder.errors import ArgumentError
from mixcoder.pixels.shape import ImageShape


def numbered(*sizes: int) -> torch.Tensor:
    """Pixels that are all different, up to 256."""
    return torch.arange(int(np.prod(sizes))).remainder(256).to(torch.uint8).reshape(sizes)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_same_images_in_any_layout(channels: int) -> None:
    expected = numbered(5, channels, 6, 7)
    assert torch.equal(to_images(expected, "x"), expected)
    last = expected.permute(0, 2, 3, 1)  # (N, H, W, C)
    assert torch.equal(to_images(last, "x"), expected)
    if channels == 1:
        assert torch.equal(to_images(expected[:, 0], "x"), expected)  # (N, H, W)


@pytest.mark.parametrize(
    ("sizes", "shape", "count"),
    [
        ((6, 7), (1, 6, 7), 1),
        ((3, 6, 7), (3, 6, 7), 1),
        ((3, 6, 7), (1, 6, 7), 3),
        ((6, 7, 3), (3, 6, 7), 1),
        ((6, 7, 1), (1, 6, 7), 1),
        ((1, 6, 7), (1, 6, 7), 1),
        ((4, 3, 6, 3), (3, 6, 3), 4),
        ((2, 5, 6, 7), (5, 6, 7), 2),
        ((9, 9, 9, 3), (3, 8, 8), 9),
    ],
)
def test_one_image_alone_is_known_by_the_shape_of_a_model(
    sizes: tuple[int, ...], shape: ImageShape, count: int
) -> None:
    assert len(to_images(numbered(*sizes), "x", shape)) == count


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((3, 8, 8), r"shape \(3, 8, 8\) can be \(N, H, W\) or \(C, H, W\); images\[None\] is one"),
        ((8, 8, 3), r"shape \(8, 8, 3\) can be \(N, H, W\) or \(H, W, C\)"),
        ((8, 8), r"shape \(8, 8\) is that of one image; images\[None\]"),
        ((5, 3, 9, 3), r"can be \(N, C, H, W\) or \(N, H, W, C\); mixcoder\.ImageSplit\(images\) takes"),
        (
            (5, 4, 9, 9),
            r"must have shape .* with 1 or 3 channels C, got \(5, 4, 9, 9\); mixcoder\.ImageSplit",
        ),
        ((7,), r"must have shape"),
        ((1, 2, 3, 4, 5), r"must have shape"),
        ((0, 8, 8), r"holds no pixels"),
    ],
)
def test_what_can_be_read_in_two_ways_or_in_none_is_refused(sizes: tuple[int, ...], message: str) -> None:
    with pytest.raises(ArgumentError, match=f"^mine: .*{message}"):
        to_images(torch.zeros(sizes), "mine")


@given(arrays.arrays(np.float32, (2, 3, 4), elements=st.floats(0, 1, width=32)))
def test_floats_are_rounded_to_the_nearest_of_256_levels(
    values: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
) -> None:
    images = to_images(torch.from_numpy(values)[:, None], "x")
    assert np.abs(images[:, 0].numpy() / 255.0 - values).max() <= 0.5 / 255 + 1e-7


def test_zeros_and_ones_become_black_and_white() -> None:
    assert to_images(torch.tensor([[[True, False]], [[False, True]]]), "x").flatten().tolist() == [
        255,
        0,
        0,
        255,
    ]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.0, 200.0], r"must lie in \[0, 1\], these lie in \[0, 200\]; of 0 … 255, images / 255"),
        ([-1.0, 1.0], r"these lie in \[-1, 1\]; of -1 … 1, \(images \+ 1\) / 2"),
        ([-2.1, 2.6], r"these lie in \[-2\.1, 2\.6\]; undo a normalisation"),
        ([0.0, float("nan")], "has values that are not finite"),
        ([0.0, float("inf")], "has values that are not finite"),
        ([0, 7], r"must be uint8, bool, or float in \[0, 1\], got Tensor .* of torch.int64"),
    ],
)
def test_other_values_are_refused_with_what_makes_them_right(values: list[float], message: str) -> None:
    with pytest.raises(ArgumentError, match=f"^mine: .*{message}"):
        to_images(torch.tensor(values).reshape(1, 1, 1, 2), "mine")
