"""Arguments of a model without what says only a default, so that equal models are stated in one way.

mixer: {name: grouped, groups: 4}  ─▶  mixer: grouped
refine: {steps: 2, matrix: full}   ─▶  refine: {steps: 2}
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from mixcoder.models.autoencoder import Autoencoder
from mixcoder.models.code_refinement import CodeRefinement
from mixcoder.models.layer_list import LayerEntry
from mixcoder.models.mixing import MIXER
from mixcoder.registry.parts import PartOf
from mixcoder.registry.signatures import signature_schema


def short_form(model: type[Autoencoder], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Returns arguments that build the same model, without those of its parts that say a default.

    Args:
        model: whose arguments they are.
        arguments: that fit the model.
    """
    fields = signature_schema(model).model_fields
    shortened = {
        key: _short(fields[key].annotation, fields[key].metadata, value) if key in fields else value
        for key, value in arguments.items()
    }
    if shortened.get("refine") is not None:
        shortened["refine"] = _short_refine(shortened["refine"])
    return shortened


def _short(annotation: Any, metadata: list[Any], value: Any) -> Any:
    """Returns a value in the short form of its type, where that has one."""
    for part_of in metadata:
        if isinstance(part_of, PartOf):
            return part_of.shorten(value)
    is_list_of_layers = LayerEntry in getattr(annotation, "__args__", ())
    return [_short_entry(entry) for entry in value] if is_list_of_layers else value


def _short_entry(entry: Any) -> Any:
    """Returns an entry of a list of layers in its short form."""
    if not isinstance(entry, Mapping):
        return entry
    short = dict(entry)
    if "mixer" in short:
        short["mixer"] = MIXER.shorten(short["mixer"])
    if "layers" in short:
        short["layers"] = [_short_entry(each) for each in short["layers"]]
    return short


def _short_refine(settings: Mapping[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(CodeRefinement).parameters
    short = {key: value for key, value in settings.items() if value != parameters[key].default}
    if short.get("fewest") == short["steps"]:
        del short["fewest"]
    return short
