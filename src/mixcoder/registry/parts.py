"""Parts of a model with arguments of their own: a name, or a map of the name and the arguments.

    mixer: cnn
    mixer: {name: grouped, groups: 4}

The constructor of a part states its arguments, as that of a model does.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from mixcoder.errors import ArgumentError, describe_type
from mixcoder.registry.registry import Registry
from mixcoder.registry.signatures import argument_problems, signature_schema

Part = str | dict[str, Any]
"""What an experiment file states of a part."""


class PartOf:
    """An annotation of a `Part`: one that a registry knows.

    Args:
        registry: of the classes of the parts.
        given: the arguments of a constructor that the model gives, not the experiment file.
    """

    def __init__(self, registry: Registry[Any], *given: str) -> None:
        self.registry = registry
        self.given = given

    def check(self, part: Part) -> tuple[str, dict[str, Any]]:
        """Returns the name and the arguments of a part, which fit its constructor.

        Raises:
            ArgumentError: they do not; `argument` is the key, such as `mixer.groups`.
        """
        key = self.registry.argument
        name, arguments = _name_and_arguments(part, key)
        try:
            constructor = self.registry[name]
        except ArgumentError as error:
            raise ArgumentError(key if isinstance(part, str) else f"{key}.name", error.message) from None
        for path, message in argument_problems(constructor, arguments) if arguments else ():
            if path[:1] and path[0] not in self.given:
                raise ArgumentError(".".join(map(str, (key, *path))), message)
        for argument in self.given:
            if argument in arguments:
                raise ArgumentError(f"{key}.{argument}", "comes from the model; remove it here")
        return name, arguments

    def create(self, part: Part, *given: Any) -> Any:
        """Returns the part, made of what the model gives and of its own arguments.

        Raises:
            ArgumentError: an unknown name, or arguments that the part does not take.
        """
        name, arguments = self.check(part)
        constructor = self.registry[name]
        try:
            return constructor(*given, **arguments)
        except ArgumentError as error:
            is_own = error.argument in self.own_arguments(constructor)
            raise (error.below(self.registry.argument) if is_own else error) from None

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: Any) -> dict[str, Any]:
        name = {"type": "string", "enum": list(self.registry), "description": "of the part"}
        keys = {key: schema for each in self.registry for key, schema in self._keys(each).items()}
        part = {
            "type": "object",
            "properties": {"name": name, **keys},
            "required": ["name"],
            "additionalProperties": False,
        }
        return {**handler(core_schema), "anyOf": [{"type": "string", "enum": list(self.registry)}, part]}

    def _keys(self, name: str) -> dict[str, Any]:
        """Returns the JSON Schema of each argument that an experiment file may state of a part."""
        constructor = self.registry[name]
        if not self.own_arguments(constructor):
            return {}
        properties = signature_schema(constructor).model_json_schema()["properties"]
        return {key: schema for key, schema in properties.items() if key not in self.given}

    def own_arguments(self, constructor: Callable[..., Any]) -> list[str]:
        """Returns the names of the arguments that an experiment file may state."""
        return [name for name in inspect.signature(constructor).parameters if name not in self.given]


def _name_and_arguments(part: object, key: str) -> tuple[str, dict[str, Any]]:
    if isinstance(part, str):
        return part, {}
    if not isinstance(part, Mapping) or not isinstance(part.get("name"), str):
        raise ArgumentError(key, f"must be a name, or a map with a `name`, got {describe_type(part)}")
    return part["name"], {key: value for key, value in part.items() if key != "name"}
