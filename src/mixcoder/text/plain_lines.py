"""Lines of plain text on a console, whatever is in them."""

from __future__ import annotations

from rich.console import Console

from mixcoder.text.sanitize import sanitize_lines


def print_line(console: Console, text: str) -> None:
    """Prints a text as it is: not wrapped, not coloured, without control characters."""
    console.print(sanitize_lines(text), soft_wrap=True, highlight=False, markup=False)
