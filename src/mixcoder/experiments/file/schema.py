"""The experiment file as a JSON Schema: what an editor completes, explains and underlines.

    signatures of models and sources ─┐
    TopLevel, Recipe ─────────────────┼─ pydantic ─▶ values in Python ─▶ values in a file ─▶ JSON Schema
    names in the registries ──────────┘                                  or ${name}, or 1_000

    definitions   data.hub            the keys that go with `source: hub`
                  data.hub.required   which of them must be there, where the file extends no other
                  model.…             likewise for `type`

The schema accepts everything that the program accepts. What needs a computation, such as whether patches tile
the image, only the program checks.

It is of draft 7, which all editors know. The keys of a model or a source hang on `if` and `then`: an editor
then speaks of the one that is named, where `oneOf` would make it speak of all.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from urllib.parse import quote

from pydantic import BaseModel

from mixcoder.experiments.file.checks import CHOICES, ChoiceSection, TopLevel
from mixcoder.experiments.file.matrix import AXIS, REFERENCE, RESERVED_AXES
from mixcoder.experiments.file.search_section import RESERVED_VALUES, SearchLimits, SearchSection
from mixcoder.experiments.file.spaces import ValueRange
from mixcoder.registry.docstrings import summary
from mixcoder.registry.known_keys import Schema, SchemaOfAnything
from mixcoder.training.recipe import Recipe

_WHOLE_REFERENCE = f"^{REFERENCE.pattern}$"
SPELLINGS: dict[str, Schema] = {
    "reference": {"type": "string", "pattern": _WHOLE_REFERENCE},
    "text_with_reference": {"type": "string", "pattern": REFERENCE.pattern},
    # Our reader takes 1_000_000 for a number; for editors, which follow YAML 1.2, it is a text.
    "integer_with_underscores": {"type": "string", "pattern": r"^[-+]?[0-9]+_[0-9_]*$"},
    "number_with_underscores": {
        "type": "string",
        "pattern": r"^(?=.*_)[-+]?[0-9][0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?$",
    },
}
"""How else a value may be written in a file than as what it is."""

_ABOUT = ("description", "default")
_MAP = ["object", "string"]
_EXTENDS = {
    "type": "string",
    "description": "another experiment file, of which this one states only what differs",
}
_COMBINATIONS = {"type": "array", "items": {"type": "object", "minProperties": 1}, "default": []}
_MATRIX = {
    "description": "lists of values; every combination is a run",
    "type": "object",
    "properties": {
        "exclude": {"description": "combinations to leave out, each by some of its values", **_COMBINATIONS},
        "include": {"description": "combinations to add, each with a value for every axis", **_COMBINATIONS},
    },
    "propertyNames": {"pattern": f"^{AXIS.pattern}$", "not": {"enum": sorted(RESERVED_AXES)}},
    "additionalProperties": {
        "description": "an axis: `${name}` stands for one of its values, `${name.key}` for a part of it",
        "type": "array",
        "minItems": 1,
    },
    "minProperties": 1,
}

_SEARCH = "in place of a matrix: ranges and lists of values; the results decide which combinations are tried"


def schema_json() -> str:
    """Returns `experiment_schema` as text."""
    return json.dumps(experiment_schema(), indent=2) + "\n"


def experiment_schema() -> Schema:
    """Returns the JSON Schema of an experiment file, with everything that is registered now."""
    top, recipe = TopLevel.model_json_schema(), Recipe.model_json_schema()
    one_duration = {"anyOf": [_with_parts(duration) for duration in recipe.pop("anyOf")]}
    maps = {section.key: _choice(section) for section in CHOICES} | {"training": recipe}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "description": "One experiment: data, model and training, for one run or for those of a matrix.",
        "type": "object",
        "properties": {
            "extends": _EXTENDS,
            "name": _in_file(top["properties"]["name"]),
            "relative_to": _in_file(top["properties"]["relative_to"]),
            **{key: _in_file({**section, **_about(top["properties"][key])}) for key, section in maps.items()},
            "matrix": _MATRIX,
            "search": _search(),
        },
        "additionalProperties": False,
        "if": {"required": ["extends"]},
        "else": {
            "required": top["required"],
            "properties": {
                **{section.key: _needed(section) for section in CHOICES},
                "training": {"type": _MAP, "if": {"type": "object"}, "then": one_duration},
                "search": _needed_of_search(),
            },
        },
        "definitions": {**SPELLINGS, **dict(itertools.chain.from_iterable(map(_defined, CHOICES)))},
    }


def _search() -> Schema:
    """Returns the section `search`."""
    keys = SearchSection.model_json_schema()["properties"]
    about_values = _about(keys.pop("values"))
    limits = {**_map_of(SearchLimits), **_about(keys.pop("limits")), "default": {}}
    return {
        "description": _SEARCH,
        "type": "object",
        "properties": {
            **{key: _in_file(schema) for key, schema in keys.items()},
            "limits": limits,
            "values": {
                **about_values,
                "type": "object",
                "propertyNames": {
                    "pattern": f"^{AXIS.pattern}$",
                    "not": {"enum": sorted(RESERVED_VALUES)},
                },
                "additionalProperties": {
                    "description": "a range of numbers, or a list of values of any kind",
                    "anyOf": [_map_of(ValueRange), {"type": "array", "minItems": 1}],
                },
                "minProperties": 1,
            },
        },
        "additionalProperties": False,
    }


def _needed_of_search() -> Schema:
    """Returns the keys that a search, and each of its ranges, needs in a file that extends no other."""
    of_range = {"if": {"type": "object"}, "then": _required(ValueRange)}
    return {**_required(SearchSection), "properties": {"values": {"additionalProperties": of_range}}}


def _required(model: type[BaseModel]) -> Schema:
    return {"required": model.model_json_schema()["required"]}


def _map_of(model: type[BaseModel]) -> Schema:
    """Returns the schema of a map with the fields of a model, as a file may write them."""
    keys = model.model_json_schema()["properties"]
    properties = {key: _in_file(schema) for key, schema in keys.items()}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _choice(section: ChoiceSection) -> Schema:
    """Returns the map of a section: the key that chooses, then the keys of each choice."""
    selector, registry = section.selector, section.registry
    name_of_one = {
        "description": f"the {registry.noun} by name",
        "type": "string",
        "enum": list(registry),
        "enumDescriptions": [summary(registry[name]) for name in registry],
    }
    return {
        "type": "object",
        "properties": {selector: name_of_one},
        "allOf": [
            *({"if": _chooses(section, name), "then": _ref(f"{section.key}.{name}")} for name in registry),
            {"if": {"not": _chooses(section, *registry)}, "then": _keys_of_any(section)},
        ],
    }


def _chooses(section: ChoiceSection, *names: str) -> Schema:
    """Returns the schema of a map that chooses one of `names`."""
    return {"required": [section.selector], "properties": {section.selector: {"enum": list(names)}}}


def _keys_of_any(section: ChoiceSection) -> Schema:
    """Returns the keys of all choices, for a map whose choice another file or a matrix makes."""
    meanings: dict[str, dict[str, str]] = {}
    for name in section.registry:
        for key, schema in _arguments(section, name)["properties"].items():
            meanings.setdefault(key, {})[name] = schema.get("description", "")
    keys = {
        key: {
            "description": " / ".join(dict.fromkeys(meaning.values())),
            "anyOf": [_ref(f"{section.key}.{name}", "properties", key) for name in meaning],
        }
        for key, meaning in meanings.items()
    }
    return {"properties": {section.selector: {}, **keys}, "additionalProperties": False}


def _needed(section: ChoiceSection) -> Schema:
    """Returns the keys that the map of a section needs in a file that extends no other."""
    return {
        "type": _MAP,
        "required": [section.selector],
        "properties": {section.selector: {"type": "string"}},
        "allOf": [
            {"if": _chooses(section, name), "then": _ref(f"{section.key}.{name}.required")}
            for name in section.registry
        ],
    }


def _defined(section: ChoiceSection) -> Iterator[tuple[str, Schema]]:
    """Yields the definitions for each name of a section."""
    for name in section.registry:
        arguments = _arguments(section, name)
        keys = {key: _in_file(schema) for key, schema in arguments["properties"].items()}
        yield (
            f"{section.key}.{name}",
            {
                "description": summary(section.registry[name]),
                "properties": {section.selector: {}, **keys},
                "additionalProperties": False,
            },
        )
        yield f"{section.key}.{name}.required", {"required": arguments["required"]}
        for model, schema in arguments["$defs"].items():
            changed = _in_file if _union(schema) else _with_parts
            yield f"{section.key}.{name}.{model}", changed(schema)


def _arguments(section: ChoiceSection, name: str) -> Schema:
    """Returns the arguments of a name, as pydantic states them, without those that are given."""
    model = section.arguments(name)
    template = _pointer(f"{section.key}.{name}") + ".{model}"
    schema = model.model_json_schema(ref_template=template, schema_generator=SchemaOfAnything)
    properties = schema.get("properties", {})
    return {
        "properties": {key: schema for key, schema in properties.items() if key not in section.given},
        "required": [key for key in schema.get("required", []) if key not in section.given],
        "$defs": schema.get("$defs", {}),
    }


def _in_file(schema: Schema) -> Schema:
    """Returns the schema of a value as a file may write it: as it is, or in one of the `SPELLINGS`."""
    if schema.get("type") in ("array", "object"):  # on one level, or editors begin no list or map for it
        return {**_with_parts(schema), "type": [schema["type"], "string"], "pattern": _WHOLE_REFERENCE}
    bare = {key: value for key, value in schema.items() if key not in (*_ABOUT, "title")}
    kinds = [_with_parts(kind) for kind in _union(bare) or [bare]]
    types = {str(kind.get("type")) for kind in kinds}
    spellings = [_ref(f"{name}_with_underscores") for name in ("integer", "number") if name in types]
    if {"type": "string"} not in kinds:
        spellings.append(_ref("text_with_reference" if "string" in types else "reference"))
    alternatives = kinds + spellings
    return {**_about(schema), **(alternatives[0] if len(alternatives) == 1 else {"anyOf": alternatives})}


def _with_parts(schema: Schema) -> Schema:
    """Returns a list or a map with its parts as a file may write them; any other schema as it is."""
    changed = {key: value for key, value in schema.items() if key != "title"}
    if "properties" in schema:
        changed["properties"] = {key: _in_file(part) for key, part in schema["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            changed[key] = _in_file(schema[key])
    return changed


def _union(schema: Schema) -> list[Schema]:
    """Returns the alternatives of a union; none of another schema."""
    alternatives: list[Schema] = schema.get("anyOf") or schema.get("oneOf") or []
    return alternatives


def _about(schema: Schema) -> Schema:
    return {key: schema[key] for key in _ABOUT if key in schema}


def _ref(*path: str) -> Schema:
    return {"$ref": _pointer(*path)}


def _pointer(*path: str) -> str:
    """Returns the JSON pointer of a definition, or of a part of one."""
    parts = (part.replace("~", "~0").replace("/", "~1") for part in path)
    return "#/definitions/" + "/".join(map(quote, parts))
