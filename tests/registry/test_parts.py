"""Parts with arguments of their own, of a registry of a test: checked, made, and in the JSON Schema."""

from __future__ import annotations

import re
from typing import Annotated, Any

import pytest
from jsonschema import Draft7Validator
from pydantic import BaseModel, ConfigDict
from torch import nn

from mixcoder.errors import ArgumentError
from mixcoder.registry.parts import Part, PartOf
from mixcoder.registry.registry import Registry
from mixcoder.registry.signatures import argument_problems

SHAPES: Registry[Any] = Registry("shape", "shape")
SHAPE = PartOf(SHAPES, {"place": "comes from the model; remove it here"})


@SHAPES.register("point")
class Point:
    """Has nothing but a place."""

    def __init__(self, place: int) -> None:
        self.place = place


@SHAPES.register("square")
class Square:
    """Has a side.

    Args:
        place: where it lies.
        side: its length.
        corners: how each of them looks.
    """

    def __init__(self, place: int, side: int, corners: dict[str, int] | None = None) -> None:
        if side > 9:
            raise ArgumentError("side", f"must be at most 9, got {side}")
        if place < 0:
            raise ArgumentError("place", "must not be negative")
        self.place, self.side, self.corners = place, side, corners


SHAPES.register("torch's")(nn.ELU)


def draw(shape: Annotated[Part, SHAPE] = "point") -> None: ...


def test_a_part_is_made_of_what_is_given_and_stated() -> None:
    assert SHAPE.create("point", 3).place == 3
    square = SHAPE.create({"name": "square", "side": 2}, 3)
    assert (square.place, square.side, square.corners) == (3, 2, None)
    assert SHAPE.check({"name": "square", "side": 2}) == ("square", {"side": 2})


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        ("pont", "shape: unknown shape 'pont'; did you mean 'point'?"),
        ("square(2)", "shape: must be a map, {name: square, side: 2}, not the text 'square(2)'"),
        ("square(2, {})", "shape: must be a map, {name: square, side: 2, corners: {}}, not the text"),
        (
            "square(side = 2)",
            "shape: must be a map, {name: square, side: 2}, not the text 'square(side = 2)'",
        ),
        ("square()", "shape: must be a map, {name: square}, not the text 'square()'"),
        ("square(1, 2, 3)", "shape: unknown shape 'square(1, 2, 3)'; known: point, square"),
        ("pont(2)", "shape: unknown shape 'pont(2)'; did you mean 'point'?"),
        ({"name": "pont"}, "shape.name: unknown shape 'pont'; did you mean 'point'?"),
        ("square", "shape.side: is missing"),
        ({"name": "square", "sid": 2}, "shape.sid: unknown key 'sid'; did you mean 'side'?"),
        ({"name": "square", "side": "2"}, "shape.side: must be a whole number, not the text '2'"),
        ({"name": "square", "side": 10}, "shape.side: must be at most 9, got 10"),
        ({"name": "square", "side": 2, "corners": {"a": "b"}}, "shape.corners.a: must be a whole number"),
        ({"name": "square", "side": 2, "place": 1}, "shape.place: comes from the model; remove it here"),
        ({"name": "point", "side": 2}, "shape.side: unknown key; the shape 'point' has no arguments"),
        ({"name": "torch's", "alpha": 2.0}, "shape.alpha: unknown key; the shape 'torch's' has no arguments"),
        ({}, "shape: is missing the key 'name'"),
        ({"name": None}, "shape.name: must be a text, not nothing"),
        ([], "shape: must be a name, or a map of a `name` and its arguments, not the list []"),
    ],
)
def test_clear_errors(part: Any, sentence: str) -> None:
    with pytest.raises(ArgumentError, match=f"^{re.escape(sentence)}"):
        SHAPE.create(part, 3)


def test_an_error_of_what_is_given_keeps_its_own_argument() -> None:
    with pytest.raises(ArgumentError, match=r"^place: must not be negative"):
        SHAPE.create({"name": "square", "side": 1}, -1)


def test_a_value_that_is_neither_name_nor_map() -> None:
    problem = "must be a name, or a map of a `name` and its arguments, not 3"
    assert argument_problems(draw, {"shape": 3}) == [(("shape",), problem)]
    assert argument_problems(draw, {"shape": "anything"}) == []


def test_the_json_schema_takes_what_is_taken() -> None:
    class Model(BaseModel):
        model_config = ConfigDict(extra="forbid")
        shape: Annotated[Part, SHAPE]

    schema = Model.model_json_schema()
    Draft7Validator.check_schema(schema)
    right: list[Any] = ["point", {"name": "point"}, {"name": "square", "side": 2}]
    wrong: list[Any] = ["pont", {"name": "square"}, {"name": "point", "side": 2}, {"side": 2}, 3]
    assert all(Draft7Validator(schema).is_valid({"shape": part}) for part in right)
    assert not any(Draft7Validator(schema).is_valid({"shape": part}) for part in wrong)
    assert not Draft7Validator(schema).is_valid({"shape": {"name": "torch's", "alpha": 1}})
    assert "its length" in str(schema)
    assert "comes from" not in str(schema)


# ── classes of plugins ───────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def plugins() -> PartOf:
    registry: Registry[Any] = Registry("shape", "shape")

    @registry.register("named otherwise")
    class Otherwise:
        def __init__(self, where, size=2):  # type: ignore[no-untyped-def]
            self.where, self.size = where, size

    @registry.register("of an unknown type")
    class Unknown:
        def __init__(self, place: int, layer: "NotImported | None" = None) -> None:  # type: ignore[name-defined] # noqa: F821, UP037
            self.where = place

    @registry.register("of a type of torch")
    class Torchs:
        def __init__(self, place: int, layer: nn.Module | None = None) -> None:
            self.where = place

    @registry.register("in need")
    class InNeed:
        def __init__(self, place, size):  # type: ignore[no-untyped-def]
            self.where = place

    return PartOf(registry, {"place": "comes from the model; remove it here"})


@pytest.mark.parametrize("name", ["named otherwise", "of an unknown type", "of a type of torch"])
def test_arguments_that_no_file_can_state_keep_their_default(plugins: PartOf, name: str) -> None:
    assert plugins.create(name, 3).where == 3
    with pytest.raises(ArgumentError, match="shape.size: unknown key"):
        plugins.check({"name": name, "size": 3})


def test_an_argument_that_no_file_can_state_needs_a_default(plugins: PartOf) -> None:
    with pytest.raises(
        ArgumentError, match="the shape 'in need' needs 'size', to which its class gives no type"
    ):
        plugins.create("in need", 3)


def test_the_schema_has_all_names_whatever_their_classes(plugins: PartOf) -> None:
    def draw(shape: Annotated[Part, plugins]) -> None: ...

    problems = argument_problems(draw, {"shape": "in need"})
    assert problems == []
