"""Models by name: `create_model("mixer", image_shape=(1, 28, 28), patch_size=7, …)`."""

from __future__ import annotations

import inspect
from copy import deepcopy
from typing import Any

import torch

from mixcoder.errors import ArgumentError, MixcoderError, first_line, is_out_of_memory
from mixcoder.models.autoencoder import Autoencoder
from mixcoder.models.code_refinement import CodeRefinement, ModelKeys
from mixcoder.models.named import is_trained_name, trained_description, trained_names
from mixcoder.models.refinable import check_refinable
from mixcoder.registry.registry import Registry
from mixcoder.registry.signatures import check_arguments

MODELS: Registry[type[Autoencoder]] = Registry("model", "type")
register_model = MODELS.register
_TAKEN = (
    "model '{name}' has an {own} of its own, a name that the key `refine` of every model takes; rename it"
)
LARGEST_SIZE = 1_000_000
MOST_LAYERS = 256


def create_model(name: str, /, **arguments: Any) -> Autoencoder:
    """Builds the model called `name` from its arguments; `image_shape` (C, H, W) is one of them.

    Every model takes `refine`, the settings of a `CodeRefinement`.

    The name of a trained model, such as one of `mixcoder models ls`, states all arguments: those given here
    take the place of its own. Its trained weights come from `mixcoder.load(name)` alone.

    The weights are initialised as torch does, from torch's global random state: call
    `torch.manual_seed` before, for the same weights again.

    Raises:
        ArgumentError: an unknown name or argument, a wrong type, numbers that clash or are beyond reason.
    """
    if name not in MODELS and is_trained_name(name):
        name, stated = trained_description(name)
        arguments = {**stated, **arguments}
    model = MODELS.find(name, trained_names)
    _check_own_names(name, model)
    checked = check_arguments(model, arguments, f"model '{name}'", ModelKeys)
    refine = checked.pop("refine", None)
    try:
        with torch.inference_mode(False):  # whose tensors can neither be refined by nor trained
            built = model(**checked)
            if built.refinement is not None:
                raise ArgumentError("", _TAKEN.format(name=name, own="attribute `refinement`"))
            if refine is not None:
                built.refinement = _refinement(built, refine)
                check_refinable(name, built)
        built.made_as = (name, deepcopy(arguments))
        return built
    except MixcoderError:
        raise
    except Exception as error:  # torch's own words for numbers beyond it, or a plugin's mistake
        if is_out_of_memory(error):
            raise
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise ArgumentError("", f"model '{name}' cannot be built with these numbers ({reason})") from error


def _check_own_names(name: str, model: type[Autoencoder]) -> None:
    """Checks that a plugin's class leaves the names of a refinement to it, and is whole where it has some.

    Raises:
        ArgumentError: names what the class has to rename or to add.
    """
    for key in ModelKeys.model_fields:
        if key in inspect.signature(model).parameters:
            raise ArgumentError(key, _TAKEN.format(name=name, own=f"argument `{key}`"))
    if hasattr(model, "refinement"):
        raise ArgumentError("", _TAKEN.format(name=name, own="attribute `refinement`"))
    halves = ("_decode_before_output", "_output")
    own = [half for half in halves if getattr(model, half) is not getattr(Autoencoder, half)]
    if len(own) == 1:
        [other] = {*halves} - {*own}
        raise ArgumentError(
            "", f"model '{name}' has a method `{own[0]}` without `{other}`; add that one, or rename it"
        )


def _refinement(model: Autoencoder, settings: dict[str, Any]) -> CodeRefinement:
    """Returns the refinement of a model's codes.

    Raises:
        ArgumentError: the settings do not fit the model, or its class has no decoder to refine them by.
    """
    owner, halves_of = (_owner(type(model), method) for method in ("_decode", "_decode_before_output"))
    is_overridden = owner is not halves_of and issubclass(owner, halves_of)
    if is_overridden and halves_of is not Autoencoder:
        raise ArgumentError(
            "refine",
            f"needs `_decode_before_output` and `_output` of {owner.__name__}, whose `_decode` is its own",
        )
    try:
        return CodeRefinement(model.latent_shape, **settings)
    except ArgumentError as error:
        raise error.below("refine") from None


def _owner(model: type, method: str) -> type:
    """Returns the class, of a model's class and those above it, that defines a method."""
    return next(each for each in model.__mro__ if method in vars(each))


def check_positive(argument: str, *numbers: int) -> None:
    """Checks that numbers lie between one and a million, no more of them than a small model has layers.

    Raises:
        ArgumentError: names the argument and the number.
    """
    if len(numbers) > MOST_LAYERS:
        raise ArgumentError(argument, f"must be at most {MOST_LAYERS} numbers, got {len(numbers):,}")
    for number in numbers:
        if type(number) is not int or not 1 <= number <= LARGEST_SIZE:
            raise ArgumentError(argument, f"must be a whole number from 1 to {LARGEST_SIZE:,}, got {number}")
