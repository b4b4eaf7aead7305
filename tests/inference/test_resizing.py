"""Images of any size in the shape of a model."""

from __future__ import annotations

import numpy as np
import pytest

from mixcoder.inference.resizing import to_shape


def test_fit_takes_the_middle_at_the_models_aspect() -> None:
    """A wide image whose middle third is white: of a square model's view that third is all."""
    pixels = np.zeros((1, 20, 60), dtype=np.uint8)
    pixels[:, :, 20:40] = 255
    assert to_shape(pixels, (3, 10, 10), fit=True)[:, 1:-1, 1:-1].min() >= 254
    assert to_shape(pixels, (1, 4, 12), fit=True).shape == (1, 4, 12)
    assert to_shape(pixels, (1, 40, 120), fit=True).mean() == pytest.approx(pixels.mean(), abs=1)
