"""Models by name: `create_model("mixer", image_shape=(1, 28, 28), patch_size=7, …)`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mixcoder.errors import ArgumentError
from mixcoder.models.autoencoder import Autoencoder
from mixcoder.registry import Registry
from mixcoder.signatures import checked_arguments


@dataclass(frozen=True)
class ModelEntry:
    """A registered model: how it is built, and arguments that show it at work."""

    build: Callable[..., Autoencoder]
    example: Mapping[str, Any]

    @property
    def summary(self) -> str:
        """The first line of the model's docstring."""
        return (self.build.__doc__ or "").strip().partition("\n")[0]


MODELS: Registry[ModelEntry] = Registry("model", "type")


def register_model(
    name: str, *, example: Mapping[str, Any]
) -> Callable[[type[Autoencoder]], type[Autoencoder]]:
    """A decorator that makes an `Autoencoder` class known to `create_model` and to experiment files.

    Args:
        name: the model's name, `model.type` in an experiment file.
        example: arguments that build a typical one, for `mixcoder models show`.
    """

    def enter(build: type[Autoencoder]) -> type[Autoencoder]:
        MODELS.register(name)(ModelEntry(build, example))
        return build

    return enter


def create_model(name: str, **arguments: Any) -> Autoencoder:
    """Builds the model called `name` from flat arguments; `image_shape` (C, H, W) is one of them.

    The weights are initialised as torch does, from torch's global random state: call
    `torch.manual_seed` before, for the same weights again.

    Raises:
        ArgumentError: an unknown name or argument, a wrong type, or numbers that clash.
    """
    entry = MODELS[name]
    return entry.build(**checked_arguments(entry.build, arguments, f"model '{name}'"))


def check_positive(argument: str, *numbers: int) -> None:
    """Refuses numbers below one.

    Raises:
        ArgumentError: names the argument and the number.
    """
    for number in numbers:
        if type(number) is not int or number < 1:
            raise ArgumentError(argument, f"must be a whole number of at least 1, got {number}")
