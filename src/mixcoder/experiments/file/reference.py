"""The experiment file's JSON Schema as Markdown: a table of keys for each section."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from urllib.parse import unquote

from mixcoder.experiments.file.checks import CHOICES, ChoiceSection
from mixcoder.experiments.file.schema import SPELLINGS, experiment_schema
from mixcoder.registry.known_keys import Schema
from mixcoder.registry.problems import format_number
from mixcoder.text.table import Column, markdown_table

Definitions = dict[str, Schema]
Row = tuple[str, str, str, str]
"""Key, values, default and meaning."""

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
    keys, definitions = schema["properties"], schema["definitions"]
    yield _table(keys, schema["else"]["required"], definitions)
    for section in CHOICES:
        yield from _choice(section, keys[section.key], definitions)
    yield "### `training`"
    yield _table(keys["training"]["properties"], (), definitions)
    yield "### `matrix`"
    matrix = keys["matrix"]
    yield _table({"any other name": matrix["additionalProperties"], **matrix["properties"]}, (), definitions)
    search, needed = keys["search"]["properties"], schema["else"]["properties"]["search"]
    yield "### `search`"
    yield _table(search, needed["required"], definitions)
    yield "#### `search.limits`"
    yield _table(search["limits"]["properties"], (), definitions)
    yield "#### `search.values`: a range"
    span = search["values"]["additionalProperties"]["anyOf"][0]
    of_range = needed["properties"]["values"]["additionalProperties"]["then"]
    yield _table(span["properties"], of_range["required"], definitions)


def _choice(section: ChoiceSection, schema: Schema, definitions: Definitions) -> Iterator[str]:
    """Yields the tables of a section that chooses by name: its own key, then those of each name."""
    yield f"### `{section.key}`"
    common = list(section.common.model_fields) if section.common else []
    of_first = definitions[f"{section.key}.{next(iter(section.registry))}"]["properties"]
    of_all = {key: of_first[key] for key in common}
    named_by = {section.selector: schema["properties"][section.selector]}
    yield _table({**named_by, **of_all}, [section.selector], definitions)
    for name in section.registry:
        named = definitions[f"{section.key}.{name}"]
        own = named["properties"].items()
        keys = {key: schema for key, schema in own if key not in (section.selector, *common)}
        yield f"#### `{section.selector}: {name}`"
        yield named["description"]
        if keys:
            yield _table(keys, definitions[f"{section.key}.{name}.required"]["required"], definitions)
            yield from _entries_of_lists(keys, definitions)


def _entries_of_lists(keys: dict[str, Schema], definitions: Definitions) -> Iterator[str]:
    """Yields a table for each kind of map that lists such as those of layers hold."""
    lists: dict[str, list[str]] = {}
    for key, schema in keys.items():
        for entry in _alternatives(schema.get("items", {})):
            if "$ref" in entry:
                lists.setdefault(entry["$ref"], []).append(f"`{key}`")
    for reference, names in lists.items():
        for entry in _alternatives(_resolved({"$ref": reference}, definitions)):
            schema = _resolved(entry, definitions)
            if "properties" in schema:
                first = next(iter(schema["properties"]))
                yield f"##### `{first}` in {' and '.join(names)}"
                yield schema["description"]
                yield _table(schema["properties"], schema.get("required", ()), definitions)


def _table(keys: dict[str, Schema], required: Sequence[str], definitions: Definitions) -> str:
    return markdown_table([*_rows(keys, required, definitions)], _COLUMNS)


def _rows(
    keys: dict[str, Schema], required: Sequence[str], definitions: Definitions, above: str = ""
) -> Iterator[Row]:
    """Yields a row for each key, and below it one for each key of a map that it takes."""
    for key, schema in keys.items():
        default = "required" if key in required else _default(schema)
        yield f"`{above}{key}`", _values(schema, definitions), default, schema.get("description", "")
        for below in (_resolved(each, definitions) for each in schema.get("anyOf", ())):
            named = below.get("properties", {}).get("name")
            if named:
                yield from _rows_of_part(f"{above}{key}.", below, named, definitions)
            elif "properties" in below:
                needed = below.get("required", ())
                yield from _rows(below["properties"], needed, definitions, f"{above}{key}.")


def _rows_of_part(above: str, part: Schema, named: Schema, definitions: Definitions) -> Iterator[Row]:
    """Yields a row for each argument of a part, whose name stands in the map too."""
    arguments = {key: schema for key, schema in part["properties"].items() if key != "name"}
    [name, *_] = next(each["enum"] for each in _alternatives(named) if "enum" in each)
    for key, value, default, meaning in _rows(arguments, part["required"], definitions, above):
        yield key, value, default, f"of `{name}`: {meaning}"


def _alternatives(schema: Schema) -> list[Schema]:
    """Returns the schemas of a union, without the other ways to write a value."""
    spellings = [f"#/definitions/{name}" for name in SPELLINGS]
    return [each for each in schema.get("anyOf", [schema]) if each.get("$ref") not in spellings]


def _resolved(schema: Schema, definitions: Definitions) -> Schema:
    """Returns the definition that a schema refers to, or the schema itself."""
    reference = schema.get("$ref", "")
    return definitions[unquote(reference.rpartition("/")[2])] if reference else schema


def _values(schema: Schema, definitions: Definitions) -> str:
    """Returns in words the values that a key takes, without the other ways to write them."""
    return " or ".join(dict.fromkeys(_value(each, definitions) for each in _alternatives(schema)))


def _value(schema: Schema, definitions: Definitions) -> str:
    schema = _resolved(schema, definitions)
    if "enum" in schema:
        return ", ".join(f"`{name}`" for name in schema["enum"])
    if "anyOf" in schema or "oneOf" in schema:
        return "a map" if "a map" in _values(schema, definitions) else "a value"
    if "const" in schema:
        return f"`{schema['const']}`"
    kinds = schema.get("type", "anything")
    kind = kinds if isinstance(kinds, str) else kinds[0]
    entries = f", each {_values(schema['items'], definitions)}" if "items" in schema else ""
    bounds = [f"{sign} {format_number(schema[key])}" for key, sign in _BOUNDS.items() if key in schema]
    return " ".join([_KINDS[kind] + entries, ", ".join(bounds)]).rstrip()


def _default(schema: Schema) -> str:
    if "default" not in schema:
        return ""
    default = schema["default"]
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"
