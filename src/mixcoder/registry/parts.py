"""Parts of a model with arguments of their own: a name, or a map of the name and the arguments.

    mixer: cnn
    mixer: {name: grouped, groups: 4}

The constructor of a part states its arguments, as that of a model does.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    JsonValue,
    PydanticUserError,
    create_model,
)
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, core_schema

from mixcoder.errors import ArgumentError
from mixcoder.registry.docstrings import summary
from mixcoder.registry.known_keys import Schema
from mixcoder.registry.problems import describe_value
from mixcoder.registry.registry import Registry
from mixcoder.registry.signatures import problems_of, signature_schema
from mixcoder.text.sanitize import sanitize

Part = str | dict[str, Any]
"""What an experiment file states of a part."""
_CALL = re.compile(r"(\w+)\(([^()]*)\)")
_RIGHT = "must be a name, or a map of a `name` and its arguments"


class PartOf:
    """An annotation of a `Part`: one that a registry knows.

    Args:
        registry: of the classes of the parts.
        given: the arguments of a constructor that the map of a part does not take, and why.
    """

    def __init__(self, registry: Registry[Any], given: Mapping[str, str] | None = None) -> None:
        self.registry = registry
        self.given = given or {}

    def check(self, part: Part) -> tuple[str, dict[str, Any]]:
        """Returns the name and the arguments of a part, which fit its constructor.

        Raises:
            ArgumentError: they do not; `argument` is the key, such as `mixer.groups`.
        """
        key = self.registry.argument
        name, arguments = _name_and_arguments(part, key)
        try:
            self.registry[name]
        except ArgumentError as error:
            message = self._hint(name) or error.message
            raise ArgumentError(key if isinstance(part, str) else f"{key}.name", message) from None
        for argument, message in self._problems(name, arguments):
            raise ArgumentError(f"{key}.{argument}", message)
        return name, arguments

    def create(self, part: Part, *given: Any) -> Any:
        """Returns the part, made of what the model gives and of its own arguments.

        Raises:
            ArgumentError: an unknown name, or arguments that the part does not take.
        """
        name, arguments = self.check(part)
        try:
            return self._build(name, given, arguments)
        except ArgumentError as error:
            is_own = error.argument in self.arguments(name).model_fields
            raise (error.below(self.registry.argument) if is_own else error) from None

    def shorten(self, part: Part) -> Part:
        """Returns a part without arguments that say a default; its name alone, where none is left.

        A part that is not sound stays as it is.
        """
        try:
            name, arguments = self.check(part)
        except ArgumentError:
            return part
        fields = self.arguments(name).model_fields
        stated = {key: value for key, value in arguments.items() if value != fields[key].default}
        return {"name": name, **stated} if stated else name

    def _build(self, name: str, given: Sequence[Any], arguments: Mapping[str, Any]) -> Any:
        constructor = self.registry[name]
        missing = _needed(constructor, len(given)) - arguments.keys()
        if missing:
            raise ArgumentError(
                self.registry.argument,
                f"the {self.registry.noun} '{name}' needs '{min(missing)}', to which its class gives no type "
                "that a file can state, such as int; give it one, or a default",
            )
        return constructor(*given, **arguments)

    def arguments(self, name: str) -> type[BaseModel]:
        """Returns the arguments that an experiment file may state of the part called `name`."""
        constructor = self.registry[name]
        parameters = tuple(inspect.signature(constructor).parameters)
        left_out = (*parameters[: len(self.given)], "name")  # a plugin may call the first ones as it likes
        is_torchs = constructor.__module__.partition(".")[0] == "torch"  # whose arguments are not for a file
        if is_torchs or not {*parameters} - {*left_out}:
            return _NoArguments
        try:
            schema = signature_schema(constructor, None, left_out)
        except (NameError, PydanticUserError):  # a plugin's argument without a type, or with one of its own
            return _NoArguments
        return schema if schema.__pydantic_complete__ else _NoArguments

    def _hint(self, name: str) -> str:
        """Returns what a name written like a call, `grouped(8)`, should be; nothing for any other."""
        called = _CALL.fullmatch(name)
        if called is None or called[1] not in self.registry:
            return ""
        values = [value.strip() for value in called[2].split(",") if value.strip()]
        keys = list(self.arguments(called[1]).model_fields)
        if len(values) > len(keys):
            return ""
        named = (
            value if "=" in value else f"{key}={value}" for key, value in zip(keys, values, strict=False)
        )
        pairs = (map(str.strip, each.split("=", 1)) for each in named)
        stated = ", ".join([f"name: {called[1]}", *map(": ".join, pairs)])
        return f"must be a map, {{{sanitize(stated)}}}, not the text '{sanitize(name)}'"

    def _problems(self, name: str, arguments: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yields the arguments that the part called `name` does not take, each with the reason."""
        yield from ((argument, reason) for argument, reason in self.given.items() if argument in arguments)
        schema = self.arguments(name)
        for path, message in problems_of(schema, arguments):
            none = f"unknown key; the {self.registry.noun} '{sanitize(name)}' has no arguments"
            yield ".".join(map(str, path)), message if schema.model_fields else none

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.custom_error_schema(handler(source), "part", custom_error_message=_RIGHT)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> Schema:
        """Returns the schema of a name, of a map of it alone, and of a map of each part with arguments."""
        with_arguments = [name for name in self.registry if self.arguments(name).model_fields]
        alone = [name for name in self.registry if name not in with_arguments]
        names = {"type": "string", "enum": list(self.registry)}
        maps = [self._map("Part", alone, {}), *(self._map_of(name) for name in with_arguments)]
        return {"anyOf": [names, *map(handler, maps)]}

    def _map_of(self, name: str) -> CoreSchema:
        arguments = self.arguments(name)
        return self._map(arguments.__name__, [name], arguments.model_fields)

    def _map(self, title: str, names: Sequence[str], arguments: Mapping[str, FieldInfo]) -> CoreSchema:
        """Returns the schema of a map of one of `names` and arguments."""
        summaries: list[JsonValue] = [summary(self.registry[name]) for name in names]
        known: dict[str, JsonValue] = {"enum": [*names], "enumDescriptions": summaries}
        named = Field(description=f"the {self.registry.noun} by name", json_schema_extra=known)
        fields: dict[str, Any] = {key: (field.annotation, field) for key, field in arguments.items()}
        config = ConfigDict(extra="forbid", protected_namespaces=())
        model = create_model(title, __config__=config, name=(str, named), **fields)
        schema: CoreSchema = model.__pydantic_core_schema__
        return schema


class _NoArguments(BaseModel):
    """A part that takes no arguments from a file."""

    model_config = ConfigDict(strict=True, extra="forbid")


def _needed(constructor: Callable[..., Any], given: int) -> set[str]:
    """Returns the arguments without a default, behind the `given` first ones."""
    parameters = list(inspect.signature(constructor).parameters.values())[given:]
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {
        parameter.name
        for parameter in parameters
        if parameter.default is inspect.Parameter.empty and parameter.kind not in variable
    }


def _name_and_arguments(part: object, key: str) -> tuple[str, dict[str, Any]]:
    if isinstance(part, str):
        return part, {}
    if not isinstance(part, Mapping):
        raise ArgumentError(key, f"{_RIGHT}, not {describe_value(part)}")
    if "name" not in part:
        raise ArgumentError(key, "is missing the key 'name'")
    if not isinstance(part["name"], str):
        raise ArgumentError(f"{key}.name", f"must be a text, not {describe_value(part['name'])}")
    return part["name"], {argument: value for argument, value in part.items() if argument != "name"}
