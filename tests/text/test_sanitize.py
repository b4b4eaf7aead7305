"""Text by others, and what a terminal, a spreadsheet, Markdown and a page make of it."""

from __future__ import annotations

import html
import unicodedata

import pytest

from mixcoder.text.sanitize import (
    csv_cell,
    is_visible,
    markdown_text,
    sanitize,
    sanitize_columns,
    sanitize_lines,
    sanitize_page,
)

HOSTILE = {
    "colour": "\x1b[31mred",
    "title": "\x1b]0;owned\x07",
    "link": "\x1b]8;;http://x\x1b\\here\x1b]8;;\x1b\\",
    "C1": "\x9b31m",
    "backspace": "safe\b\b\b\bevil",
    "carriage return": "hidden\rshown",
    "bidi override": "\u202egpj.exe",
    "bidi isolate": "\u2066a\u2069",
    "zero width": "a\u200bb\ufeffc",
    "line separator": "a\u2028b",
    "blank letter": "a\u3164b",
    "hidden bytes": "a\U000e0100\U000e0069b",
    "tag characters": "a\U000e0041b",
    "not UTF-8": "caf\udce9.png",
    "null": "a\0b",
    "tab": "a\tb",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_nothing_unseen_reaches_a_terminal(text: str) -> None:
    for safe in (sanitize(text), sanitize_lines(text), csv_cell(text), markdown_text(text)):
        assert all(map(is_visible, safe.replace("\n", "")))
        safe.encode()
        assert set(safe) - set(text) <= set("\\xuU0123456789abcdefnrt'")


def test_a_text_that_is_safe_stays_as_it_is() -> None:
    for text in ("plain", "Größe 4×4", "日本語.png", "🙂 photo", "[red]not markup[/]", ""):
        assert sanitize(text) == text
        assert sanitize_page(text) == text


def test_a_message_is_cut_and_says_so() -> None:
    assert sanitize("a" * 100) == "a" * 60 + "…"
    assert sanitize("a" * 100, 99) == "a" * 99 + "…"
    assert sanitize("a" * 100, None) == "a" * 100


def test_lines_stay_lines() -> None:
    assert sanitize("one\ntwo") == "one\\ntwo"
    assert sanitize_lines("one\n\x1b[2Jtwo\r") == "one\n\\x1b[2Jtwo\\r"
    assert sanitize_page("a:\n\tb\x00") == "a:\n\tb\\x00"


def test_a_caret_stays_below_its_character() -> None:
    assert sanitize_columns("a\x1bb\tc") == "a�b c"


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+cmd|'/c calc'!A0", "-2+3", "@SUM(A1)", " =1", "\N{FULLWIDTH EQUALS SIGN}1", "-", "-1,2)", "+"],
)
def test_no_cell_is_a_formula(text: str) -> None:
    assert csv_cell(text) == f"'{text}"


@pytest.mark.parametrize("text", ["-1.5", "+3", "-1e-4", "-1,2", "1-2", "a=b", "3@4", "4", "", "é=1"])
def test_numbers_and_other_texts_stay(text: str) -> None:
    assert csv_cell(text) == text


def test_a_tab_before_a_formula_is_seen() -> None:
    assert csv_cell("\t=1+1") == "\\t=1+1"
    assert csv_cell("\r=1+1") == "\\r=1+1"


def test_markdown_shows_what_stands_there() -> None:
    from markdown_it import MarkdownIt

    for text in (
        "*a*",
        "[x](javascript:alert(1))",
        "<b>a</b>",
        "`a`",
        "a__b__c",
        "~~a~~",
        "&lt;",
        "\\*",
        "$a$",
    ):
        page = MarkdownIt().enable("strikethrough").render(markdown_text(text))
        assert html.unescape(page) == f"<p>{text}</p>\n"
    assert markdown_text("kernel_size") == "kernel_size"


def test_every_character_of_unicode_is_seen_or_escaped() -> None:
    unseen = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    for start in range(0, 0x110000, 0x1000):
        text = "".join(map(chr, range(start, start + 0x1000)))
        assert not {
            character for character in sanitize(text, None) if unicodedata.category(character) in unseen
        }
