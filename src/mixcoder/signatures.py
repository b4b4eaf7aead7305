"""Checks arguments against the signature of what will take them.

A model's or a data source's constructor is the one place that states its arguments; Python callers and
experiment files are both checked against it, with the same sentences.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from mixcoder.errors import ArgumentError
from mixcoder.problems import Problem, problems_of


@cache
def signature_schema(function: Callable[..., Any]) -> type[BaseModel]:
    """A strict pydantic model of the arguments that `function` takes."""
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        fields[parameter.name] = (parameter.annotation, Field(default=default))
    return create_model(
        getattr(function, "__name__", "arguments"),
        __config__=ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, protected_namespaces=()),
        **fields,
    )


def argument_problems(function: Callable[..., Any], arguments: Mapping[str, Any]) -> list[Problem]:
    """What is wrong with `arguments` for `function`; empty where they fit."""
    schema = signature_schema(function)
    try:
        schema.model_validate(dict(arguments))
    except ValidationError as error:
        return problems_of(error, schema)
    return []


def checked_arguments(
    function: Callable[..., Any], arguments: Mapping[str, Any], taker: str
) -> dict[str, Any]:
    """`arguments` as they are, once they fit the signature of `function`.

    Raises:
        ArgumentError: an unknown, missing or wrongly typed argument of `taker` ("model 'mixer'").
    """
    for path, message in argument_problems(function, arguments):
        raise ArgumentError(".".join(map(str, path)), f"{message} (in {taker})")
    return dict(arguments)
