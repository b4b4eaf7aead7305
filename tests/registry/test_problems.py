"""What nests too deeply is told in a sentence, from Python and from files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import mixcoder
from mixcoder.errors import ArgumentError, RunDirectoryError
from mixcoder.models.description import read_description

STACK: dict[str, Any] = {
    "image_shape": (1, 8, 8),
    "patch_size": 4,
    "latent_dim": 2,
    "code_channels": 1,
    "encoder": [],
}
SENTENCE = "is nested too deeply"


def layers(levels: int) -> list[Any]:
    nested: list[Any] = [{"channels": 4}]
    for _ in range(levels):
        nested = [{"repeat": 1, "layers": nested}]
    return nested


@pytest.mark.parametrize("levels", [150, 300])
def test_arguments(levels: int) -> None:
    with pytest.raises(ArgumentError, match=rf"^decoder\S+: {SENTENCE} \(in model 'stack'\)$"):
        mixcoder.create_model("stack", **STACK, decoder=layers(levels))


def test_a_list_that_is_too_deep_for_words() -> None:
    nested: list[Any] = []
    for _ in range(20_000):
        nested = [nested]
    sentence = "patch_size: must be a whole number, not a value that is nested too deeply"
    with pytest.raises(ArgumentError, match=sentence):
        mixcoder.create_model("stack", **{**STACK, "patch_size": nested}, decoder=[])


def test_a_model_file(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    description = {"format": 1, "type": "stack", "arguments": {**STACK, "decoder": layers(150)}}
    path.write_text(json.dumps(description))
    read = read_description(path)
    with pytest.raises(ArgumentError, match=SENTENCE):
        mixcoder.create_model(read.type, **read.call_arguments())
    path.write_text('{"arguments": ' + "[" * 50_000 + "]" * 50_000 + "}")
    with pytest.raises(RunDirectoryError, match=f"^{re.escape(str(path))}: {SENTENCE}$"):
        read_description(path)
