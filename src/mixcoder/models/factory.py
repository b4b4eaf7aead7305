"""Models by name: `create_model("mixer", image_shape=(1, 28, 28), patch_size=7, …)`."""

from __future__ import annotations

from typing import Any

from mixcoder.errors import ArgumentError, MixcoderError, first_line, is_out_of_memory
from mixcoder.models.autoencoder import Autoencoder
from mixcoder.models.code_refinement import CodeRefinement, ModelKeys
from mixcoder.models.named import is_trained_name, trained_description, trained_names
from mixcoder.registry.registry import Registry
from mixcoder.registry.signatures import check_arguments

MODELS: Registry[type[Autoencoder]] = Registry("model", "type")
register_model = MODELS.register
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
    if is_trained_name(name) and name not in MODELS:
        name, stated = trained_description(name)
        arguments = {**stated, **arguments}
    model = MODELS.find(name, trained_names())
    checked = check_arguments(model, arguments, f"model '{name}'", ModelKeys)
    refine = checked.pop("refine", None)
    try:
        built = model(**checked)
        if refine is not None:
            built.refinement = _refinement(built, refine)
        return built
    except MixcoderError:
        raise
    except Exception as error:  # torch's own words for numbers beyond it, or a plugin's mistake
        if is_out_of_memory(error):
            raise
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise ArgumentError("", f"model '{name}' cannot be built with these numbers ({reason})") from error


def _refinement(model: Autoencoder, settings: dict[str, Any]) -> CodeRefinement:
    try:
        return CodeRefinement(model.latent_shape, **settings)
    except ArgumentError as error:
        raise error.below("refine") from None


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
