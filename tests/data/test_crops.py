"""Crops are what slicing gives at the drawn place; which ones a batch holds follows from seed and step."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from mixcoder.data import CropSplit, ImageSplit
from mixcoder.data.split import TrainingBatches, epoch_draws, epoch_order
from mixcoder.data.store.image_store import ImageStore
from mixcoder.errors import DataError

Size = tuple[int, int]
LAST = math.nextafter(1, 0)


def store_of(sizes: Sequence[Size], channels: int, seed: int = 0) -> ImageStore:
    """Random images of the sizes (height, width)."""
    generator = np.random.default_rng(seed)
    lengths = [channels * height * width for height, width in sizes]
    return ImageStore(
        Path("store"),
        channels,
        torch.from_numpy(generator.integers(0, 256, sum(lengths) + 5, dtype=np.uint8)),
        torch.tensor(np.cumsum([0, *lengths[:-1]])),
        torch.tensor(sizes),
        [str(row) for row in range(len(sizes))],
        {},
        f"seed {seed}",
    )


def sliced(image: Tensor, crop: Size, draws: Sequence[float], may_flip: bool = False) -> Tensor:
    """The crop at the drawn place, taken by slicing."""
    (height, width), (rows, columns) = crop, image.shape[1:]
    top, left = int(draws[0] * (rows - height + 1)), int(draws[1] * (columns - width + 1))
    taken = image[:, top : top + height, left : left + width]
    return taken.flip(2) if may_flip and draws[2] < 0.5 else taken


draw = st.sampled_from([0.0, 0.5, LAST]) | st.floats(0, LAST)


@given(
    crop=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    spare=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=5),
    channels=st.sampled_from([1, 3]),
    drawn=st.lists(st.tuples(st.integers(0, 4), draw, draw, draw), min_size=1, max_size=8),
    flips=st.booleans(),
)
@example(crop=(1, 1), spare=[(0, 0)], channels=1, drawn=[(0, LAST, LAST, LAST)], flips=True)
@example(crop=(4, 3), spare=[(4, 4)] * 2, channels=3, drawn=[(1, LAST, LAST, 0.0)], flips=True)
def test_a_crop_is_what_slicing_gives(
    crop: Size,
    spare: list[Size],
    channels: int,
    drawn: list[tuple[int, float, float, float]],
    flips: bool,
) -> None:
    store = store_of([(crop[0] + more[0], crop[1] + more[1]) for more in spare], channels)
    split = CropSplit.of(store, range(len(store)), crop, flips)
    indices = [row % len(store) for row, *_ in drawn]
    batch = split.batch(
        torch.tensor(indices), torch.tensor([draws for _, *draws in drawn], dtype=torch.float64)
    )
    wanted = [
        sliced(store.image(row), crop, draws, flips) for row, (_, *draws) in zip(indices, drawn, strict=True)
    ]
    assert batch.dtype == torch.uint8
    assert split.image_shape == (channels, *crop)
    assert torch.equal(batch, torch.stack(wanted))


@pytest.mark.parametrize("spare", [1, 2, 3, 5, 6, 7, 10, 100, 1000, 4095, 4096, 65_535])
def test_the_largest_draw_is_the_last_place(spare: int) -> None:
    store = store_of([(1 + spare, 1), (1, 1 + spare)], 1)
    split = CropSplit.of(store, range(2), (1, 1))
    for draws, column in (([LAST, LAST, 0], -1), ([0, 0, 0], 0)):
        batch = split.batch(torch.tensor([0, 1]), torch.tensor([draws, draws], dtype=torch.float64))
        assert batch.flatten().tolist() == [store.image(row).flatten()[column].item() for row in range(2)]


def test_every_place_is_drawn_about_as_often() -> None:
    store = store_of([(6, 5)], 1)
    store.pixels[:30] = torch.arange(30)
    split = CropSplit.of(store, [0], (4, 4), horizontal_flips=True)
    count = 6000
    batch = split.batch(torch.zeros(count, dtype=torch.int64), epoch_draws(count, 3, seed=1, epoch=0))
    corners = batch[:, 0, 0, 0], batch[:, 0, 0, 3]
    is_mirrored = corners[0] > corners[1]
    frequency = Counter(torch.where(is_mirrored, *corners[::-1]).tolist())
    assert sorted(frequency) == [0, 1, 5, 6, 10, 11]
    assert all(abs(often - count / 6) < 150 for often in frequency.values())
    assert abs(int(is_mirrored.sum()) - count / 2) < 200


@given(
    crop=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    spare=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=5),
)
def test_the_middle_is_what_slicing_gives(crop: Size, spare: list[Size]) -> None:
    store = store_of([(crop[0] + more[0], crop[1] + more[1]) for more in spare], 3)
    split = CropSplit.of(store, range(len(store)), crop, horizontal_flips=True).centre_crops()
    assert split.images.shape == (len(store), 3, *crop)
    for row, (down, right) in enumerate(spare):
        top, left = down // 2, right // 2
        middle = store.image(row)[:, top : top + crop[0], left : left + crop[1]]
        assert torch.equal(split.images[row], middle)


def test_many_middles() -> None:
    store = store_of([(3 + row % 4, 2 + row % 3) for row in range(600)], 1)
    images = CropSplit.of(store, range(600), (3, 2)).centre_crops().images
    assert len(images) == 600
    assert torch.equal(images[599], store.image(599)[:, 1:4, 1:3])


def test_some_of_the_images() -> None:
    store = store_of([(4, 4), (5, 6), (7, 4), (4, 9)], 3)
    split = CropSplit.of(store, [3, 1], (4, 4))
    assert len(split) == 2
    batch = split.batch(torch.tensor([0, 1]), torch.zeros(2, 3))
    assert torch.equal(batch, torch.stack([store.image(3)[:, :4, :4], store.image(1)[:, :4, :4]]))


@pytest.mark.parametrize("size", [(3, 9), (9, 4)])
def test_an_image_smaller_than_a_crop_is_refused(size: Size) -> None:
    store = store_of([(9, 9), size, (9, 9)], 1)
    with pytest.raises(DataError, match=f"store: 1 is {size[0]} x {size[1]} pixels, smaller than a crop"):
        CropSplit.of(store, range(3), (4, 5))
    assert len(CropSplit.of(store, [0, 2], (4, 5))) == 2


SIZES = [(9 + row % 5, 12 - row % 4) for row in range(11)]


def test_batches_follow_from_seed_and_step() -> None:
    split = CropSplit.of(store_of(SIZES, 3), range(11), (5, 5), horizontal_flips=True)
    batches = TrainingBatches(split, 4, seed=3)
    forwards = [batches[step] for step in range(12)]
    assert forwards[0].shape == (4, 3, 5, 5)
    for step in reversed(range(12)):
        torch.rand(3)
        assert torch.equal(TrainingBatches(split, 4, seed=3)[step], forwards[step])
    others = TrainingBatches(split, 4, seed=4)
    assert not any(torch.equal(others[step], batch) for step, batch in enumerate(forwards))


def test_batches_are_the_drawn_crops_over_the_end_of_an_epoch() -> None:
    store = store_of(SIZES, 3)
    split = CropSplit.of(store, range(11), (5, 5), horizontal_flips=True)
    stream = [
        sliced(store.image(int(row)), (5, 5), draws, may_flip=True)
        for epoch in range(3)
        for row, draws in zip(epoch_order(11, 3, epoch), epoch_draws(11, 3, 3, epoch).tolist(), strict=True)
    ]
    batches = TrainingBatches(split, 4, seed=3)
    for step in range(8):
        assert torch.equal(batches[step], torch.stack(stream[4 * step : 4 * step + 4]))


def test_every_epoch_has_other_crops() -> None:
    split = CropSplit.of(store_of([(60, 60)] * 5, 1), range(5), (6, 6))
    batches = TrainingBatches(split, 5, seed=0)
    crops = torch.cat([batches[epoch] for epoch in range(20)])
    assert len({crop.numpy().tobytes() for crop in crops}) > 95


def test_draws_are_a_function_of_seed_and_epoch_alone() -> None:
    draws = epoch_draws(500, 3, seed=2, epoch=1)
    assert torch.equal(draws, epoch_draws(500, 3, seed=2, epoch=1))
    assert not torch.equal(draws, epoch_draws(500, 3, seed=2, epoch=2))
    assert not torch.equal(draws, epoch_draws(500, 3, seed=1, epoch=1))
    assert 0 <= draws.min() < 0.01
    assert 0.99 < draws.max() < 1
    # Pinned: other draws would make every earlier result a different experiment.
    torch.testing.assert_close(
        epoch_draws(1, 3, 0, 0),
        torch.tensor([[0.4492388188, 0.3910416383, 0.5769687853]], dtype=torch.float64),
        rtol=0,
        atol=1e-9,
    )


def test_images_as_they_are_take_no_draws() -> None:
    images = torch.arange(7 * 12, dtype=torch.uint8).reshape(7, 1, 3, 4)
    split = ImageSplit(images)
    assert split.draws == 0
    assert epoch_draws(7, split.draws, 0, 0).shape == (7, 0)
    batches = TrainingBatches(split, 3, seed=5)
    order = torch.cat([epoch_order(7, 5, epoch) for epoch in range(3)])
    for step in range(6):
        assert torch.equal(batches[step], images[order[3 * step : 3 * step + 3]])


def test_identity_tells_splits_apart() -> None:
    store, other = store_of(SIZES, 1), store_of(SIZES, 1, seed=1)
    splits = [
        CropSplit.of(store, range(11), (5, 5)),
        CropSplit.of(store, range(10), (5, 5)),
        CropSplit.of(store, [*range(9), 10, 9], (5, 5)),
        CropSplit.of(store, range(11), (5, 6)),
        CropSplit.of(store, range(11), (5, 5), horizontal_flips=True),
        CropSplit.of(other, range(11), (5, 5)),
    ]
    assert len({split.identity() for split in splits}) == len(splits)
    assert splits[0].identity() == CropSplit.of(store, range(11), (5, 5)).identity()
    assert splits[0].to(torch.device("cpu")) is splits[0]
