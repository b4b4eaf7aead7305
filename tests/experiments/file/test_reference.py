"""The tables of the experiment file's keys are whole, and read well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from mixcoder.data import SOURCES
from mixcoder.experiments.file.reference import reference_markdown
from mixcoder.models import MIXERS, MODELS, Autoencoder, register_model
from mixcoder.registry.signatures import signature_schema
from mixcoder.training.recipe import Recipe


def row(key: str, tables: str) -> str:
    [line] = {line for line in tables.splitlines() if line.startswith(f"| `{key}` |")}
    return line


def test_all_keys_and_names_are_there() -> None:
    tables = reference_markdown()
    functions: list[Any] = [*(SOURCES[name] for name in SOURCES), *(MODELS[name] for name in MODELS)]
    keys = {key for function in functions for key in signature_schema(function).model_fields}
    for key in keys - {"image_shape"} | set(Recipe.model_fields) | set(MIXERS):
        assert f"`{key}`" in tables
    assert "image_shape" not in tables.partition("### `model`")[2]  # which comes from the data


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("batch_size", "a whole number > 0, ≤ 1,000,000 | `64` | images of one optimizer step |"),
        ("optimizer", "`adamw`, `adam`, `sgd`, `muon` | `adamw` |"),
        ("weight_decay", "a number ≥ 0, ≤ 1e+30 or `null` | `null` |"),
        ("hidden_channels", "a list, each a whole number | required |"),
        ("mixer_at", "a list, each a whole number | `[]` |"),
        ("model", "a map | required |"),
        ("exclude", "a list, each a map | `[]` |"),
        ("refine", "a map or `null` | `null` |"),
        ("refine.steps", "a whole number ≥ 1, ≤ 64 | required |"),
        ("encoder", "a list, each a map | required |"),
        ("repeat", "a whole number ≥ 1, ≤ 256 | required |"),
        ("layers", "a list, each a map | required |"),
    ],
)
def test_what_a_row_says(key: str, words: str) -> None:
    assert row(key, reference_markdown()).startswith(f"| `{key}` | {words}")


def test_a_plugins_model() -> None:
    @register_model("own")
    class Own(Autoencoder):
        """One of a user's own.

        Args:
            share: a | b.
        """

        def __init__(
            self,
            image_shape: Sequence[int],
            share: Annotated[float, Field(gt=0, lt=1)] = 0.5,
            kinds: Sequence[Literal["a", "b"]] = ("a",),
            function: type[int] = int,
        ) -> None: ...

    tables = reference_markdown().partition("#### `type: own`\n\nOne of a user's own.\n\n")[2]
    assert row("share", tables) == "| `share` | a number > 0, < 1 | `0.5` | a \\| b |"
    assert row("kinds", tables) == '| `kinds` | a list, each `a`, `b` | `["a"]` |  |'
    assert row("function", tables) == "| `function` | a value |  |  |"
