"""The keys that a map within nested data may have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import BaseModel, Discriminator, Field, Tag, ValidationError

from mixcoder.registry.known_keys import known_keys
from mixcoder.registry.problems import list_problems


class Leaf(BaseModel, extra="forbid"):
    colour: str = ""


class Branch(BaseModel, extra="forbid"):
    leaves: list[Leaf] = Field(default_factory=list)
    branches: dict[str, Branch] = Field(default_factory=dict)


def kind_of(value: object) -> str:
    return "of[leaves]" if isinstance(value, dict) and "leaves" in value else "of[colour]"


class NeedsLeaves(BaseModel, extra="forbid"):
    leaves: int


class NeedsColour(BaseModel, extra="forbid"):
    colour: int


class Tree(BaseModel, extra="forbid"):
    trunk: Branch | None = None
    kind: Literal["oak"] = "oak"
    grow: Callable[[int], int] = abs
    parts: list[
        Annotated[
            Annotated[NeedsLeaves, Tag("of[leaves]")] | Annotated[NeedsColour, Tag("of[colour]")],
            Discriminator(kind_of),
        ]
    ] = Field(default_factory=list)


def test_keys_of_each_map() -> None:
    assert known_keys(Tree, ()) == {"trunk", "kind", "grow", "parts"}
    assert known_keys(Tree, ("trunk",)) == {"leaves", "branches"}
    assert known_keys(Tree, ("trunk", "leaves", 7)) == {"colour"}
    assert known_keys(Tree, ("parts", 0, "of[leaves]")) == {"leaves"}
    assert known_keys(Tree, ("parts", 0, "of[colour]")) == {"colour"}
    assert known_keys(Tree, ("kind",)) == set()
    assert known_keys(Tree, ("nothing", 3)) == set()


def problems(value: object) -> list[str]:
    try:
        Tree.model_validate(value)
    except ValidationError as error:
        return [f"{'.'.join(map(str, path))}: {message}" for path, message in list_problems(error, Tree)]
    return []


def test_messages_name_the_nearest_key_of_the_same_map() -> None:
    assert problems({"trunc": {}}) == ["trunc: unknown key 'trunc'; did you mean 'trunk'?"]
    assert problems({"trunk": {"leafs": []}}) == ["trunk.leafs: unknown key 'leafs'; did you mean 'leaves'?"]
    assert problems({"trunk": {"leaves": [{"color": "red"}]}}) == [
        "trunk.leaves.0.color: unknown key 'color'; did you mean 'colour'?"
    ]
    assert problems({"parts": [{"leaves": 1, "leave": 2}]}) == [
        "parts.0.leave: unknown key 'leave'; did you mean 'leaves'?"
    ]
