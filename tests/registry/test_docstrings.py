"""What a docstring says of arguments is found, however it is laid out."""

from __future__ import annotations

import pytest

from mixcoder.registry.docstrings import argument_descriptions, summary
from mixcoder.registry.signatures import signature_schema


def documented(size: int, title: str = "", path: str | None = None) -> None:
    """Does one thing.

    Args:
        size: of the thing: from 1 to 5,
            in pixels.
        title (str): what it is called.

            Anything goes.

        path: `photos/*.jpg`

    Returns:
        nothing: at all.

    Raises:
        ValueError: it is too large.
    """


def test_each_on_one_line() -> None:
    assert argument_descriptions(documented) == {
        "size": "of the thing: from 1 to 5, in pixels",
        "title": "what it is called. Anything goes",
        "path": "`photos/*.jpg`",
    }
    assert signature_schema(documented).model_fields["path"].description == "`photos/*.jpg`"
    assert summary(documented) == "Does one thing."


def test_nothing_is_found_where_nothing_is_said() -> None:
    def without_arguments(size: int) -> None:
        """Does the other thing."""

    def bare(size: int) -> None: ...

    assert argument_descriptions(without_arguments) == argument_descriptions(bare) == {}
    assert signature_schema(bare).model_fields["size"].description is None
    assert summary(bare) == ""


@pytest.mark.parametrize(
    ("docstring", "found"),
    [
        ("Args:\n    a: one.\n    b: two.", {"a": "one", "b": "two"}),
        ("Args:\n    a (dict[str, int]): with: colons (and more): so.", {"a": "with: colons (and more): so"}),
        ("Args:\n  a:\n    below\n\n    and on.\nReturns:\n  b: no.", {"a": "below and on"}),
        ("Attributes:\n    a: no argument.", {}),
        ("Args:", {}),
        ("Says `Args:` in a sentence.\n    a: no.", {}),
        ("Args:\n    a: one. Two..", {"a": "one. Two."}),
    ],
)  # fmt: skip
def test_layouts(docstring: str, found: dict[str, str]) -> None:
    def function() -> None: ...

    function.__doc__ = f"Does it.\n\n{docstring}\nEnd."
    assert argument_descriptions(function) == found
