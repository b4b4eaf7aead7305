"""Text that others wrote, made safe: one function for each medium.

Names of files, values of a matrix, reasons of a failure and results of strangers can hold escape sequences
for a terminal, formulas for a spreadsheet, markup for a page and bytes that are no text at all.

    terminal, messages ─▶ sanitize, sanitize_lines
    CSV                ─▶ csv_cell
    Markdown           ─▶ markdown_text
    HTML, SVG, JSON    ─▶ sanitize_page, and what escapes the characters of HTML itself
"""

from __future__ import annotations

import html
import re

_MESSAGE_LETTERS = 60
_BLANK_LETTERS = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\uffa0\U000e0100-\U000e01ef]"
)
"""Characters that Unicode counts as letters, marks or symbols, and that no font draws."""
_FORMULA_STARTS = tuple("=+-@\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}\N{FULLWIDTH COMMERCIAL AT}")
_NUMBERS = re.compile(r"[-+]?[\d.,]+([eE][-+]?\d+)?")
_MARKDOWN = re.compile(r"[\\`*_\[\]~$]")
_INSIDE_WORD = re.compile(r"(?<=[A-Za-z0-9])\\_(?=[A-Za-z0-9])")


def is_visible(character: str) -> bool:
    """Returns whether a character can be seen, or at least its width, as of a space."""
    return character.isprintable() and not _BLANK_LETTERS.match(character)


def sanitize(text: str, limit: int | None = _MESSAGE_LETTERS) -> str:
    """Returns a text for a terminal: on one line, what cannot be seen as its escape.

    Args:
        text: by whomever; may hold lone surrogates, as names of files that are not UTF-8 do.
        limit: characters of the text that are kept; None keeps all.
    """
    kept = text[:limit]
    if not kept.isprintable() or _BLANK_LETTERS.search(kept):
        kept = "".join(map(_escaped, kept))
    return kept if limit is None or len(text) <= limit else f"{kept}…"


def sanitize_lines(text: str) -> str:
    """Returns a text of several lines for a terminal, each sanitized."""
    return "\n".join(sanitize(line, limit=None) for line in text.split("\n"))


def sanitize_columns(line: str) -> str:
    """Returns a line with one visible character for each of its own, so that a caret below it fits."""
    return "".join(
        character if is_visible(character) else " " if character.isspace() else "\N{REPLACEMENT CHARACTER}"
        for character in line
    )


def sanitize_page(text: str) -> str:
    """Returns a text for HTML or SVG, whose own characters are yet to be escaped; lines and tabs stay."""
    return "".join(
        piece if piece in "\n\t" else sanitize(piece, limit=None) for piece in re.split(r"([\n\t])", text)
    )


def csv_cell(text: str) -> str:
    """Returns a text for a cell of CSV: sanitized, with an apostrophe before what would be a formula."""
    visible = sanitize_lines(text)
    is_formula = visible.lstrip().startswith(_FORMULA_STARTS) and not _NUMBERS.fullmatch(visible)
    return f"'{visible}" if is_formula else visible


def markdown_text(text: str) -> str:
    """Returns a text that Markdown shows as it is: sanitized, and its marks escaped; lines stay."""
    escaped = _MARKDOWN.sub(r"\\\g<0>", html.escape(sanitize_lines(text), quote=False))
    return _INSIDE_WORD.sub("_", escaped)


def _escaped(character: str) -> str:
    return character if is_visible(character) else character.encode("unicode_escape").decode()
