"""Splits, batches, and the order of images."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mixcoder.data import ImageData, ImageSplit, load_data
from mixcoder.data.split import TrainingBatches, epoch_order, to_float
from mixcoder.errors import ArgumentError
from tests.conftest import training_images


def test_digits_are_real_and_split_as_stated() -> None:
    data = load_data("digits")
    assert training_images(data).shape == (1500, 1, 8, 8)
    assert data.validation.images.shape == (297, 1, 8, 8)
    assert training_images(data).dtype == torch.uint8
    assert (int(training_images(data).min()), int(training_images(data).max())) == (0, 255)
    assert data.train.labels is not None
    assert data.train.labels[:10].tolist() == list(range(10))
    assert data.content_hash() == "3cf0df49fd7e90f06203a736749fc0828165adb3c406cdd88adba9ab12949f6d"


def test_digits_are_those_that_scikit_learn_gives() -> None:
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    given, data = load_digits(), load_data("digits")
    images = torch.cat([training_images(data), data.validation.images])
    assert torch.equal(images, torch.from_numpy(given.images * 255 / 16).round().to(torch.uint8)[:, None])
    assert data.train.labels is not None
    assert data.validation.labels is not None
    labels = torch.cat([data.train.labels, data.validation.labels])
    assert labels.tolist() == given.target.tolist()


def test_content_hash_tells_data_apart(tiny_data: ImageData) -> None:
    changed = training_images(tiny_data).clone()
    changed[-1, 0, 0, 0] ^= 1
    other = ImageData("tiny", ImageSplit(changed), tiny_data.validation)
    assert other.content_hash() != tiny_data.content_hash()


def test_float_range() -> None:
    images = to_float(torch.tensor([[[[0, 51, 255]]]], dtype=torch.uint8))
    torch.testing.assert_close(images, torch.tensor([[[[0.0, 0.2, 1.0]]]]))


def test_order_is_a_function_of_seed_and_epoch_alone() -> None:
    before = epoch_order(100, seed=4, epoch=2)
    torch.rand(10)
    assert torch.equal(epoch_order(100, seed=4, epoch=2), before)
    assert sorted(before.tolist()) == list(range(100))
    others = [epoch_order(100, 4, 3), epoch_order(100, 5, 2), epoch_order(100, 2, 4)]
    assert not any(torch.equal(before, other) for other in others)
    # Pinned: a changed order would make every earlier result a different experiment.
    assert epoch_order(8, 0, 0).tolist() == [2, 4, 3, 6, 5, 0, 1, 7]


@given(count=st.integers(1, 40), batch_size=st.integers(1, 50), seed=st.integers(0, 9))
def test_every_epoch_sees_every_image_once(count: int, batch_size: int, seed: int) -> None:
    batches = TrainingBatches(ImageSplit(torch.zeros(count, 1, 1, 1, dtype=torch.uint8)), batch_size, seed)
    stream = torch.cat([batches.indices(step) for step in range(3 * count // batch_size + 1)])
    assert all(len(batches.indices(step)) == batch_size for step in range(5))
    for epoch in range(len(stream) // count):
        seen = stream[epoch * count : (epoch + 1) * count]
        assert torch.equal(seen, epoch_order(count, seed, epoch))


def test_a_batch_depends_on_its_step_alone(tiny_data: ImageData) -> None:
    batches = TrainingBatches(tiny_data.train, 8, seed=1)
    forwards = [batches[step] for step in range(20)]
    fresh = TrainingBatches(tiny_data.train, 8, seed=1)
    assert all(torch.equal(fresh[step], forwards[step]) for step in reversed(range(20)))
    assert forwards[0].shape == (8, 1, 4, 6)


@given(count=st.integers(1, 40), batch_size=st.integers(1, 50), cut=st.integers(0, 50))
def test_shards_are_what_a_batch_holds_at_their_place(count: int, batch_size: int, cut: int) -> None:
    """Also where an epoch ends within a shard."""
    split, cut = ImageSplit(torch.arange(count, dtype=torch.uint8)[:, None, None, None]), min(cut, batch_size)
    whole = TrainingBatches(split, batch_size, seed=3)
    first, second = (
        TrainingBatches(split, batch_size, 3, s) for s in (slice(0, cut), slice(cut, batch_size))
    )
    for step in range(6):
        shards = [batches[step] for batches, size in ((first, cut), (second, batch_size - cut)) if size]
        assert torch.equal(torch.cat(shards), whole[step])


BYTES = torch.zeros(3, 1, 8, 8, dtype=torch.uint8)
GOOD = ImageSplit(BYTES)
WRONG_IMAGES: dict[str, tuple[Any, str]] = {
    "float": (BYTES / 255, "got torch.float32; (images * 255).round().to(torch.uint8)"),
    "half": (BYTES.half(), "uint8 in 0 … 255, got torch.float16; (images * 255)"),
    "bool": (BYTES > 127, "got torch.bool; images.to(torch.uint8) * 255"),
    "int8": (BYTES.to(torch.int8), "got torch.int8; bring them to 0 … 255"),
    "int64": (BYTES.long(), "got torch.int64"),
    "uint16": (BYTES.to(torch.uint16), "got torch.uint16"),
    "gradients": (BYTES.float().requires_grad_(), "got torch.float32"),
    "array": (BYTES.numpy(), "got ndarray (3, 1, 8, 8) of uint8; torch.from_numpy(images"),
    "big-endian": (BYTES.numpy().astype(">u2"), "of >u2; torch.from_numpy(images.astype('uint8'))"),
    "list": ([1, 2], "must be a torch.Tensor, got list"),
    "nothing": (None, "must be a torch.Tensor, got None"),
    "no channels": (BYTES[:, 0], "got (3, 8, 8); did you mean images[:, None]"),
    "one image": (BYTES[0, 0], "must have shape (N, C, H, W), got (8, 8)"),
    "colours last": (
        torch.zeros(3, 28, 30, 3).byte(),
        "(3, 28, 30, 3); did you mean images.permute(0, 3, 1, 2)",
    ),
    "grey last": (BYTES.permute(0, 2, 3, 1), "did you mean images.permute"),
    "none": (BYTES[:0], "hold no pixels: their shape is (0, 1, 8, 8)"),
    "no rows": (BYTES[:, :, :0], "hold no pixels"),
    "sparse": (BYTES.to_sparse(), "must be dense pixels in memory, got torch.sparse_coo"),
    "meta": (BYTES.to("meta"), "must be dense pixels in memory, got torch.strided on meta"),
}
WRONG_LABELS: dict[str, tuple[Any, str]] = {
    "too few": (torch.zeros(2).long(), "labels must have shape (3,), got (2,)"),
    "two dimensions": (torch.zeros(3, 1).long(), "labels must have shape (3,), got (3, 1)"),
    "float": (torch.zeros(3), "int64 (N,), got Tensor (3,) of torch.float32; labels.long()"),
    "list": ([1, 2, 3], "got list; torch.tensor(list(labels))"),
    "array": (np.zeros(3, ">i8"), "got ndarray (3,) of >i8; torch.tensor(list(labels))"),
    "elsewhere": (torch.zeros(3, device="meta").long(), "labels are on meta, their images on cpu"),
}
WRONG_DATA: dict[str, tuple[Any, Any, Any, str]] = {
    "tensor": ("x", BYTES, GOOD, "train: must be a mixcoder.ImageSplit, got Tensor (3, 1, 8, 8)"),
    "list": ("x", GOOD, [BYTES], "validation: must be a mixcoder.ImageSplit, got list"),
    "swapped": (GOOD, GOOD, "x", "name: must be a text, got ImageSplit"),
    "size": ("x", GOOD, ImageSplit(BYTES[..., :4]), "images are (1, 8, 4), those to train on (1, 8, 8)"),
}


@pytest.mark.parametrize("kind", WRONG_IMAGES)
def test_what_are_no_images_is_refused_at_the_door(kind: str) -> None:
    images, sentence = WRONG_IMAGES[kind]
    with pytest.raises(ArgumentError, match=re.escape(sentence)):
        ImageSplit(images)


@pytest.mark.parametrize("kind", WRONG_LABELS)
def test_what_are_no_labels_is_refused_at_the_door(kind: str) -> None:
    labels, sentence = WRONG_LABELS[kind]
    with pytest.raises(ArgumentError, match=re.escape(sentence)):
        ImageSplit(BYTES, labels)


@pytest.mark.parametrize("kind", WRONG_DATA)
def test_splits_that_do_not_fit_are_refused(kind: str) -> None:
    name, training, validation, sentence = WRONG_DATA[kind]
    with pytest.raises(ArgumentError, match=re.escape(sentence)):
        ImageData(name, training, validation)


def test_data_goes_to_devices_that_there_are() -> None:
    data: Any = ImageData("x", GOOD, GOOD)
    assert data.to("cpu").train.device == torch.device("cpu")
    for device in ("tpu", "meta", 7, None, BYTES):
        with pytest.raises(ArgumentError, match="device: "):
            data.to(device)


def test_pixels_of_any_layout_are_images() -> None:
    images = torch.randint(0, 256, (5, 3, 8, 6), dtype=torch.uint8)
    for layout in (images.flip(0), images[::2], images.transpose(2, 3), images[:1].expand(4, -1, -1, -1)):
        split = ImageSplit(layout, torch.arange(len(layout)))
        assert torch.equal(TrainingBatches(split, 3, seed=0)[0], layout[epoch_order(len(layout), 0, 0)[:3]])
        assert ImageSplit(layout.contiguous()).identity() == split.identity()
    features = torch.zeros(2, 512, 3, 3, dtype=torch.uint8)
    assert ImageSplit(features).image_shape == (512, 3, 3)


def test_unknown_source() -> None:
    with pytest.raises(ArgumentError, match="source: unknown data source 'minst'; did you mean 'mnist'?"):
        load_data("minst")
    with pytest.raises(ArgumentError, match="size: unknown key 'size'"):
        load_data("digits", size=3)
