"""For the article's Mixers, the emitted operations are those that were once written by hand for each layer.

`hand_written_programs.json` holds these: "operation sizes @scale", and how often.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from mixcoder.backends.native import native_step
from mixcoder.backends.native.codes import OPERATIONS
from mixcoder.backends.native.native_step import NativeStep
from mixcoder.backends.parameters import FlatParameters
from mixcoder.backends.step import StepSpec
from mixcoder.backends.vector_adamw import VectorAdamW
from mixcoder.models import create_model

PROGRAMS: dict[str, dict[str, int]] = json.loads(
    Path(__file__).with_name("hand_written_programs.json").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", list(PROGRAMS))
def test_operations_are_those_written_by_hand(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mixer, kernel, precision, shards = name.split()
    monkeypatch.setattr(native_step, "load_kernels", lambda: None)  # a processor need not have all of them
    model = create_model(
        "mixer",
        image_shape=(1, 28, 28),
        patch_size=7,
        hidden_channels=[64, 64, 64, 16],
        latent_dim=16,
        mixer_at=[2, 3, 4],
        mixer=mixer,
        kernel_size=int(kernel[1:]),
    )
    flat = FlatParameters(model.train())
    images = torch.zeros(64, 1, 28, 28, dtype=torch.uint8)
    spec = StepSpec(model, flat, "mse", images, precision=getattr(torch, precision), shards=int(shards))
    step = NativeStep(spec, [VectorAdamW(flat.vector, 0.001)])
    emitted = Counter(_text(operation) for program in step._operations for operation in program)
    assert emitted == PROGRAMS[name]


def _text(operation: np.void) -> str:
    numbers = operation["n"].tolist()
    while numbers and numbers[-1] == 0:
        numbers.pop()
    scale = [f"@{operation['scale']:.3g}"] if operation["scale"] else []
    return " ".join([OPERATIONS[operation["code"]], *map(str, numbers), *scale])
