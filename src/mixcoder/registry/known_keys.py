"""The keys that a map within nested data may have, found in the JSON Schema of the data.

schema ─ path ("encoder", 0, "layer[mixer]") ─▶ {mixer, kernel_size, activation}
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind

Schema = dict[str, Any]


class SchemaOfAnything(GenerateJsonSchema):
    """pydantic's JSON Schema, which lets pass what JSON has no word for, such as a plugin's function."""

    def handle_invalid_for_json_schema(self, schema: object, error_info: str) -> Schema:
        return {}

    def emit_warning(self, kind: JsonSchemaWarningKind, detail: str) -> None:
        pass


def known_keys(model: type[BaseModel], path: Sequence[str | int]) -> set[str]:
    """Returns the keys of the map at `path`, which may go through branches of unions, as `layer[mixer]`."""
    if not path:
        return set(model.model_fields)
    whole = _whole_schema(model)
    schemas = [whole]
    for part in path:
        schemas = [below for schema in schemas for below in _below(schema, part, whole)]
    return {key for schema in schemas for key in schema.get("properties", {})}


@cache
def _whole_schema(model: type[BaseModel]) -> Schema:
    """Returns the schema of a model, made once: a file may have hundreds of unknown keys."""
    return model.model_json_schema(schema_generator=SchemaOfAnything)


def _below(schema: Schema, part: str | int, whole: Schema) -> Iterator[Schema]:
    """Yields what a schema says of a part of its values: an entry of a list, a key of a map, or a branch."""
    below = schema.get("items") if isinstance(part, int) else schema.get("properties", {}).get(part)
    if below is not None:
        yield from _alternatives(below, whole)
    elif _needs(schema, part):
        yield schema


def _needs(schema: Schema, branch: str | int) -> bool:
    """Returns whether a schema is that of a branch: that of `layer[mixer]` needs the key `mixer`."""
    key = str(branch).partition("[")[2].removesuffix("]")
    return key in schema.get("required", ())


def _alternatives(schema: Schema, whole: Schema) -> Iterator[Schema]:
    """Yields a schema without references, or each schema of a union."""
    if "$ref" in schema:
        schema = whole["$defs"][schema["$ref"].rpartition("/")[2]]
    union = schema.get("anyOf") or schema.get("oneOf")
    if not union:
        yield schema
    for each in union or ():
        yield from _alternatives(each, whole)
