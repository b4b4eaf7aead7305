"""Checks of arguments against the signature of their function.

A model's or a data source's constructor is the one place that states its arguments, and its docstring what
they mean; Python callers and experiment files are both checked against it, with the same sentences.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from mixcoder.errors import ArgumentError, describe_type
from mixcoder.registry.docstrings import argument_descriptions
from mixcoder.registry.problems import Problem, list_problems


@cache
def signature_schema(
    function: Callable[..., Any], common: type[BaseModel] | None = None, left_out: tuple[str, ...] = ()
) -> type[BaseModel]:
    """Returns a strict pydantic model of the arguments of `function`, as its docstring describes them.

    Args:
        function: whose arguments they are.
        common: keys that go with the arguments of every such function.
        left_out: arguments that come from elsewhere.
    """
    fields: dict[str, Any] = {}
    descriptions = argument_descriptions(function)
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        if parameter.name in left_out or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        description = descriptions.get(parameter.name)
        fields[parameter.name] = (parameter.annotation, Field(default=default, description=description))
    for key, field in common.model_fields.items() if common else ():
        fields[key] = (field.annotation, field)
    return create_model(
        getattr(function, "__name__", "arguments"),
        __config__=ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, protected_namespaces=()),
        **fields,
    )


def argument_problems(
    function: Callable[..., Any], arguments: Mapping[str, Any], common: type[BaseModel] | None = None
) -> list[Problem]:
    """Returns what is wrong with `arguments` for `function`, or the keys beside them; nothing if they fit."""
    return problems_of(signature_schema(function, common), arguments)


def problems_of(schema: type[BaseModel], arguments: Mapping[str, Any]) -> list[Problem]:
    """Returns what is wrong with `arguments` for a schema; nothing if they fit."""
    try:
        schema.model_validate(dict(arguments))
    except ValidationError as error:
        return list_problems(error, schema)
    return []


def check_arguments(
    function: Callable[..., Any],
    arguments: Mapping[str, Any],
    taker: str,
    common: type[BaseModel] | None = None,
) -> dict[str, Any]:
    """Returns `arguments` as they are, once they fit the signature of `function` and the keys beside it.

    Raises:
        ArgumentError: an unknown, missing or wrongly typed argument of `taker` ("model 'mixer'").
    """
    for path, message in argument_problems(function, arguments, common):
        raise ArgumentError(".".join(map(str, path)), f"{message} (in {taker})")
    return dict(arguments)


def check_path(argument: str, value: object, meaning: str) -> Path:
    """Returns an argument of a Python caller as a path.

    Args:
        argument: its name.
        value: its value.
        meaning: what the argument may be, for the message ("the folder of a run").

    Raises:
        ArgumentError: `value` is no path; says what it is.
    """
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str):
        raise ArgumentError(argument, f"must be {meaning}, got {describe_type(value)}")
    if not text or "\0" in text:
        flaw = "a name with a NUL character" if text else "an empty name"
        raise ArgumentError(argument, f"must be {meaning}, got {flaw}")
    return Path(text)
