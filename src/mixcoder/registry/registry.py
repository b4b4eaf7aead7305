"""Registries, which make models, mixing layers, data sources and loggers open to a user's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mixcoder.errors import ArgumentError, describe_type, did_you_mean
from mixcoder.registry.meant import meant_names
from mixcoder.text.sanitize import sanitize

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler

T = TypeVar("T")


class Registry(Generic[T]):
    """A closed vocabulary that a decorator extends.

    An argument annotated `Annotated[str, REGISTRY]` is one of its names, also in the JSON Schema.

    Args:
        noun: what the entries are, for messages ("mixing layer").
        argument: the argument that names an entry, for errors that point at a key ("mixer").

    Attributes:
        noun: as stated.
        argument: as stated.
    """

    def __init__(self, noun: str, argument: str) -> None:
        self.noun = noun
        self.argument = argument
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Returns a decorator that enters a class or function under `name`.

        The decorator raises an ArgumentError for a taken name, unless the entry is the same definition made
        again, as in a notebook.
        """
        self._check_name(name, f'write @register_{self.argument}("my-own") above it')

        def enter(entry: T) -> T:
            if name in self._entries and _origin(entry) != _origin(self._entries[name]):
                raise ArgumentError(
                    self.argument, f"a {self.noun} named '{name}' exists already; take another name"
                )
            self._entries[name] = entry
            return entry

        return enter

    def __getitem__(self, name: str) -> T:
        """Returns the entry called `name`.

        Raises:
            ArgumentError: the name is unknown; the message suggests the nearest one.
        """
        return self.find(name)

    def find(self, name: str, others: Callable[[], Iterable[str]] = tuple) -> T:
        """Returns the entry called `name`.

        Args:
            name: of the entry.
            others: returns names that the caller knows beside the entries, for the suggestion.

        Raises:
            ArgumentError: the name is unknown; the message suggests the nearest one.
        """
        self._check_name(name, f"such as '{next(iter(self._entries), '')}'")
        if name not in self._entries:
            known = meant_names(name, self.argument, self._entries)
            known = known or did_you_mean(name, [*self._entries, *others()])
            raise ArgumentError(self.argument, f"unknown {self.noun} '{sanitize(name)}'{known}")
        return self._entries[name]

    def _check_name(self, name: object, right: str) -> None:
        if not isinstance(name, str):
            raise ArgumentError(
                self.argument, f"a {self.noun} has a name, got {describe_type(name)}; {right}"
            )

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._entries

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(core_schema), "enum": list(self)}


def _origin(entry: object) -> tuple[object, object]:
    return getattr(entry, "__module__", None), getattr(entry, "__qualname__", None)
