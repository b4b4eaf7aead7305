"""Data sources by name: `load_data("mnist")`, or `data: {source: mnist}` in an experiment file."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mixcoder.data.classes import keep_classes
from mixcoder.data.fetch_progress import StartTask, no_progress
from mixcoder.data.holdout import check_count, hold_out
from mixcoder.data.source_keys import SourceKeys
from mixcoder.data.split import ImageData
from mixcoder.errors import ArgumentError, DataError
from mixcoder.pixels.shape import ImageShape
from mixcoder.registry.registry import Registry
from mixcoder.registry.signatures import check_arguments


class DataSource(ABC):
    """A source of images. Its constructor's arguments are its keys in an experiment file.

    Attributes:
        image_shape: (C, H, W) of its images, known before anything is loaded.
        training_images: how many there are to train on.
        is_known_by_name: whether its images are those of one data set, whatever its arguments. Where these
            can name a place, such as a folder, what somebody else's run names is opened only when the user
            asks for it.
    """

    image_shape: ImageShape
    training_images: int
    is_known_by_name: bool = False

    @abstractmethod
    def load(self) -> ImageData:
        """Returns the images, fetched first where that is needed and possible.

        Raises:
            DataError: they are not to be had, or damaged.
        """

    @classmethod
    def located(cls, arguments: dict[str, Any], folder: Path) -> dict[str, Any]:
        """Returns the constructor's arguments, relative paths taken from `folder`; here none is a path."""
        return arguments

    def is_fetched(self) -> bool:
        """Returns whether `load` finds everything on this machine."""
        return True

    def prepare(self, progress: StartTask = no_progress) -> str:
        """Does once what `load` would else do first, such as to fetch or to pack, and shows how it goes.

        Returns:
            What is worth telling, such as how many images had to be left out; empty where nothing is.

        Raises:
            DataError: as `load`.
            WriteError: there is no room for it.
        """
        return ""

    def fetch(
        self, origin: str | None = None, sha256: str | None = None, progress: StartTask = no_progress
    ) -> None:
        """Brings what is missing to this machine, also what could not be had before.

        Args:
            origin: a place to fetch from, in place of the well-known ones.
            sha256: the published checksum (hex) of what lies there.
            progress: told of what is fetched.

        Raises:
            ArgumentError: this source is not fetched from anywhere.
            DataError: it cannot be had.
            WriteError: there is no room for it.
        """
        if origin or sha256:
            raise ArgumentError("from", "this data source is not fetched from anywhere")

    def verify(self) -> list[dict[str, str]]:
        """Reads every file whole; a row a file: its path, and what is right or wrong with it.

        Raises:
            ArgumentError: there are no files.
            DataError: they are not on this machine.
        """
        raise ArgumentError("source", "has no files to verify")

    def status(self) -> str:
        """Returns in a few words whether `load` would find everything on this machine."""
        return "ready"


class NarrowedSource(DataSource):
    """A data source of which some images take part.

    Args:
        source: whose images they are.
        keys: which of them.

    Raises:
        ArgumentError: the source is known to have no more training images than are to be held out.
    """

    def __init__(self, source: DataSource, keys: SourceKeys) -> None:
        known = inspect.getattr_static(source, "training_images", None)
        if keys.search_holdout and isinstance(known, int):  # else they are counted by loading them
            check_count(keys.search_holdout, known)
        self.source = source
        self.keys = keys
        self.image_shape = source.image_shape
        self.is_known_by_name = source.is_known_by_name

    @property
    def training_images(self) -> int:  # type: ignore[override]
        """As many as are left to train on.

        Raises:
            ArgumentError: none is left.
        """
        if self.keys.classes:
            return len(self.load().train)
        whole, held_out = self.source.training_images, self.keys.search_holdout or 0
        check_count(held_out, whole)
        return whole - held_out

    def load(self) -> ImageData:
        data = keep_classes(self.source.load(), self.keys.classes, self.keys.validation_classes)
        return hold_out(data, self.keys.search_holdout) if self.keys.search_holdout else data

    def is_fetched(self) -> bool:
        return self.source.is_fetched()

    def prepare(self, progress: StartTask = no_progress) -> str:
        note = self.source.prepare(progress)
        if self.keys.search_holdout:
            check_count(self.keys.search_holdout, self.source.training_images)
        return note

    def fetch(
        self, origin: str | None = None, sha256: str | None = None, progress: StartTask = no_progress
    ) -> None:
        """Brings what is missing to this machine, as the source does."""
        self.source.fetch(origin, sha256, progress)

    def verify(self) -> list[dict[str, str]]:
        """Reads every file of the source whole."""
        return self.source.verify()

    def status(self) -> str:
        return self.source.status()


def describe_soundness(read: Callable[[], object]) -> str:
    """Returns "sound", or what is wrong with what `read` reads."""
    try:
        read()
    except (DataError, ArgumentError) as error:
        return f"damaged: {error}"
    return "sound"


SOURCES: Registry[type[DataSource]] = Registry("data source", "source")


def register_source(name: str) -> Callable[[type[DataSource]], type[DataSource]]:
    """Returns a decorator that makes a `DataSource` class known to `load_data` and to experiment files.

    The decorator raises an ArgumentError for a taken name, and for an argument that is a key of all sources.
    """
    enter = SOURCES.register(name)

    def register(source: type[DataSource]) -> type[DataSource]:
        for taken in inspect.signature(source).parameters.keys() & SourceKeys.model_fields.keys():
            raise ArgumentError(taken, "is a key of every data source; give the argument another name")
        return enter(source)

    return register


def create_source(name: str, /, **arguments: Any) -> DataSource:
    """Returns the data source called `name`, not loaded yet.

    Args:
        name: of the source.
        arguments: its own, and the keys that every source takes, such as `search_holdout`.

    Raises:
        ArgumentError: an unknown name, or arguments that it does not take.
    """
    return build_source(name, check_arguments(SOURCES[name], arguments, f"data source '{name}'", SourceKeys))


def build_source(name: str, arguments: Mapping[str, Any]) -> DataSource:
    """Returns the data source called `name`, of arguments that are known to fit.

    Raises:
        ArgumentError: a value is out of bounds.
    """
    own = {key: value for key, value in arguments.items() if key not in SourceKeys.model_fields}
    source = SOURCES[name](**own)
    keys = SourceKeys(**{key: arguments[key] for key in arguments.keys() - own.keys()})
    return source if keys == SourceKeys() else NarrowedSource(source, keys)


def load_data(name: str, /, **arguments: Any) -> ImageData:
    """Returns the images of the data source called `name`.

    Args:
        name: of the source.
        arguments: its own, and the keys that every source takes, such as `search_holdout`.

    Raises:
        ArgumentError: an unknown name, or arguments that it does not take.
        DataError: the images are not to be had, or damaged.
    """
    return create_source(name, **arguments).load().known_as(name, arguments)
