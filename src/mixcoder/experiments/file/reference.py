"""The experiment file's JSON Schema as Markdown: a table of keys for each section."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from mixcoder.experiments.file.checks import CHOICES, ChoiceSection
from mixcoder.experiments.file.schema import SPELLINGS, Schema, experiment_schema
from mixcoder.registry.problems import format_number
from mixcoder.text.table import Column, markdown_table

_COLUMNS = [
    Column("key", "key"),
    Column("value", "value"),
    Column("default", "default"),
    Column("meaning", "meaning"),
]
_KINDS = {
    "integer": "a whole number",
    "number": "a number",
    "string": "a text",
    "boolean": "`true` or `false`",
    "null": "`null`",
    "array": "a list",
    "object": "a map",
    "anything": "a value",
}
_BOUNDS = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}


def reference_markdown() -> str:
    """Returns every key of an experiment file with the values it takes, its default and its meaning."""
    return "\n\n".join(_parts(experiment_schema())) + "\n"


def _parts(schema: Schema) -> Iterator[str]:
    keys = schema["properties"]
    yield _table(keys, schema["else"]["required"])
    for section in CHOICES:
        yield from _choice(section, keys[section.key], schema["definitions"])
    yield "### `training`"
    yield _table(keys["training"]["properties"])
    yield "### `matrix`"
    matrix = keys["matrix"]
    yield _table({"any other name": matrix["additionalProperties"], **matrix["properties"]})


def _choice(section: ChoiceSection, schema: Schema, definitions: dict[str, Schema]) -> Iterator[str]:
    """Yields the tables of a section that chooses by name: its own key, then those of each name."""
    yield f"### `{section.key}`"
    common = list(section.common.model_fields) if section.common else []
    of_first = definitions[f"{section.key}.{next(iter(section.registry))}"]["properties"]
    of_all = {key: of_first[key] for key in common}
    yield _table({section.selector: schema["properties"][section.selector], **of_all}, [section.selector])
    for name in section.registry:
        named = definitions[f"{section.key}.{name}"]
        own = named["properties"].items()
        keys = {key: schema for key, schema in own if key not in (section.selector, *common)}
        yield f"#### `{section.selector}: {name}`"
        yield named["description"]
        if keys:
            yield _table(keys, definitions[f"{section.key}.{name}.required"]["required"])


def _table(keys: dict[str, Schema], required: Sequence[str] = ()) -> str:
    cells = [
        (
            f"`{key}`",
            _values(schema),
            "required" if key in required else _default(schema),
            schema.get("description", ""),
        )
        for key, schema in keys.items()
    ]
    return markdown_table(cells, _COLUMNS)


def _values(schema: Schema) -> str:
    """Returns in words the values that a key takes, without the other ways to write them."""
    spellings = [f"#/definitions/{name}" for name in SPELLINGS]
    alternatives = [each for each in schema.get("anyOf", [schema]) if each.get("$ref") not in spellings]
    return " or ".join(map(_value, alternatives))


def _value(schema: Schema) -> str:
    if "enum" in schema:
        return ", ".join(f"`{name}`" for name in schema["enum"])
    kinds = schema.get("type", "anything")
    kind = kinds if isinstance(kinds, str) else kinds[0]
    entries = f", each {_values(schema['items'])}" if "items" in schema else ""
    bounds = [f"{sign} {format_number(schema[key])}" for key, sign in _BOUNDS.items() if key in schema]
    return " ".join([_KINDS[kind] + entries, ", ".join(bounds)]).rstrip()


def _default(schema: Schema) -> str:
    if "default" not in schema:
        return ""
    default = schema["default"]
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"
