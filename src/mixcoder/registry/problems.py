"""Turns pydantic's findings into sentences a user can act on."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError

from mixcoder.errors import describe_type, did_you_mean
from mixcoder.registry.known_keys import known_keys
from mixcoder.registry.meant import meant_list, meant_names, meant_number
from mixcoder.text.sanitize import sanitize

Path = tuple[str | int, ...]
Problem = tuple[Path, str]
"""Where in nested data something is wrong, and a sentence that says what."""

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "a text",
    "string_unicode": "Unicode text",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "sequence_str": "a list",
    "is_instance_of": "a list",
    "dict_type": "a map of keys and values",
    "mapping_type": "a map of keys and values",
    "model_type": "a map of keys and values",
    "none_required": "empty",
    "finite_number": "a finite number",
}
OTHER_NAMES = {
    "lr": "learning_rate",
    "wd": "weight_decay",
    "bs": "batch_size",
    "batch": "batch_size",
    "max_steps": "steps",
    "iterations": "steps",
    "max_epochs": "epochs",
    "num_epochs": "epochs",
    "n_epochs": "epochs",
    "samples": "inputs",
    "images": "inputs",
    "scheduler": "schedule",
    "optim": "optimizer",
    "warmup": "warmup_steps",
    "gradient_clip_val": "clip_norm",
    "grad_clip": "clip_norm",
    "ema_decay": "ema",
    "latent_size": "latent_dim",
    "z_dim": "latent_dim",
    "hidden_size": "hidden_channels",
    "dataset": "data",
}
"""What other tools call keys."""
_BOUNDS = {
    "greater_than": ("above", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("below", "lt"),
    "less_than_equal": ("at most", "le"),
}


def describe_value(value: Any) -> str:
    """Returns what a value is, in the words of an experiment file."""
    try:
        return _in_words(value)
    except RecursionError:  # lists within lists, hundreds of them
        return "a value that is nested too deeply"


def _in_words(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"{str(value).lower()}"
    if isinstance(value, str):
        return f"the text '{sanitize(value)}'"
    if isinstance(value, Mapping):
        return "a map"
    if isinstance(value, list | tuple) and all(map(_is_readable, value)):
        return f"the list {sanitize(str(list(value)))}"
    return sanitize(str(value)) if _is_readable(value) else describe_type(value)


def _is_readable(value: Any) -> bool:
    """Returns whether an experiment file can hold a value, unlike, say, a tensor's many elements."""
    if isinstance(value, list | tuple):
        return all(map(_is_readable, value))
    return value is None or isinstance(value, bool | int | float | str | date | Mapping)


def list_problems(error: ValidationError, schema: type[BaseModel]) -> list[Problem]:
    """Returns each finding of `error` once, with the path to its key; unknown keys come first.

    A misspelt key is found twice, as unknown and as missing; the first of the two helps.
    """
    problems: dict[Path, str] = {}
    for finding in sorted(
        error.errors(include_url=False), key=lambda found: found["type"] != "extra_forbidden"
    ):
        problems.setdefault(_key_path(finding), _sentence(finding, schema))
    return list(problems.items())


def _key_path(finding: Mapping[str, Any]) -> Path:
    """Returns the path to the key of a finding, without the branches of unions; an unknown key as it is."""
    if not finding["loc"]:
        return ()
    *above, last = finding["loc"]
    is_key = finding["type"] == "extra_forbidden" or not _is_union_branch(last)
    return (*(part for part in above if not _is_union_branch(part)), *([last] if is_key else []))


def first_problem(error: ValidationError, schema: type[BaseModel], *above: str) -> str:
    """Returns the first finding as a sentence that begins with its key, below the keys `above`.

    A key that is no text at all has no place in the data: the sentence says what it is.
    """
    path, message = list_problems(error, schema)[0]
    place = ".".join(map(str, (*above, *path)))
    return f"{sanitize(place)}: {message}" if path else f"{sanitize(place)}{place and ': '}a key {message}"


def _sentence(finding: Mapping[str, Any], schema: type[BaseModel]) -> str:
    kind, value, context = finding["type"], finding["input"], finding.get("ctx", {})
    key = str(finding["loc"][-1]) if finding["loc"] else ""
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        known = known_keys(schema, finding["loc"][:-1])
        return f"unknown key '{sanitize(key)}'{did_you_mean(OTHER_NAMES.get(key, key), known)}"
    if kind in ("missing", "missing_argument"):
        return "is missing"
    if kind in _EXPECTED:
        return f"must be {_EXPECTED[kind]}, not {describe_value(value)}{_meant(_EXPECTED[kind], value)}"
    if kind in _BOUNDS:
        words, bound = _BOUNDS[kind]
        return f"must be {words} {format_number(context[bound])}, not {describe_value(value)}"
    if kind == "literal_error":
        names = re.findall(r"'([^']*)'", context["expected"])
        if not isinstance(value, str):
            return f"must be one of {', '.join(names)}, not {describe_value(value)}"
        return (
            f"unknown name '{sanitize(value)}'{meant_names(value, key, names) or did_you_mean(value, names)}"
        )
    if kind == "string_pattern_mismatch":
        return f"must be made of letters, digits, '.', '_' and '-', not {describe_value(value)}"
    if kind == "too_short":
        return f"must have at least {context['min_length']} in it, not {describe_value(value)}"
    if kind == "layer_kind":
        if isinstance(value, str) and value in context["registry"]:
            return f"write {{{context['registry'].argument}: {value}}}"
        return f"{finding['msg']}{_nearest(value, context['kinds'])}"
    if kind == "recursion_depth_exceeded":
        return "is nested too deeply"
    if kind == "json_invalid":
        return f"is not JSON ({context['error']})"
    if kind == "value_error":
        return str(context["error"])
    return f"{finding['msg'][:1].lower()}{finding['msg'][1:]}, not {describe_value(value)}"


def _meant(expected: str, value: Any) -> str:
    """Returns which value is meant by one of another type; empty where that is not to be seen."""
    if expected == "a whole number":
        return meant_number(value)
    return meant_list(value) if expected == "a list" else ""


def _nearest(value: Any, known: Sequence[str]) -> str:
    """Returns which known key or word is meant, where a map has a key, or a text is, nearly that."""
    words = [word for word in (value if isinstance(value, Mapping) else [value]) if isinstance(word, str)]
    near = (get_close_matches(word, known, n=1) for word in words)
    return next((f"; did you mean '{match}'?" for matches in near for match in matches), "")


def _is_union_branch(part: str | int) -> bool:
    """Returns whether pydantic names the branch of a union that it tried ("int", …), which is no key."""
    return part in ("int", "str", "float", "bool") or (
        isinstance(part, str) and part.endswith("]") and "[" in part
    )


def format_number(number: float) -> str:
    """Returns 1000000 as 1,000,000 and 1e30 as 1e+30."""
    return f"{number:,}" if isinstance(number, int) else f"{number:g}"
