"""The grammar on the page of the script language makes what the parser takes, and no more."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixcoder.errors import ScriptError
from mixcoder.models.script import parse_script, plan_script
from tests.documents import blocks_of, read_document

PAGE = read_document("docs/script-language.md")
_IN_REGEX = {"{": "(?:", "}": ")*", "[": "(?:", "]": ")?", "(": "(?:", ")": ")", "|": "|"}


def printed_grammar() -> dict[str, str]:
    """The rules of the page's EBNF by name."""
    [grammar] = [block.content for block in blocks_of(PAGE) if block.language == "ebnf"]
    return dict(re.findall(r"^(\w+) *= *(.*(?:\n +.*)*)$", grammar, flags=re.M))


def as_regex(rule: str, rules: dict[str, str]) -> str:
    """A rule as a regular expression, which it can be because no rule holds itself."""
    parts = re.findall(r'"[^"]*"|\w+|\S', rules[rule])
    return "".join(
        re.escape(part[1:-1])
        if part.startswith('"')
        else _IN_REGEX.get(part) or f"(?:{as_regex(part, rules)})"
        for part in parts
    )


GRAMMAR = re.compile(as_regex("script", printed_grammar()))


def is_within_bounds(script: str) -> bool:
    """Whether the numbers are those that the page's text allows."""
    text = " ".join(PAGE.split())
    assert all(bound in text for bound in ("five digits", "from 1 to 65,536", "from 0 to 64"))
    allowed = {"ch": range(1, 65_537), "down": range(1, 65_537), "scl": range(65)}
    steps = re.findall(r"([a-z]+)[=*/]?(\d+)", script)
    return all(len(number) <= 5 and int(number) in allowed[word] for word, number in steps)


def is_accepted(script: str) -> bool:
    try:
        parse_script(script)
    except ScriptError as error:
        assert 0 <= error.position <= len(script)
        return False
    return True


scripts = st.from_regex(GRAMMAR, fullmatch=True, alphabet=st.characters(codec="ascii"))


def test_the_grammar_is_read_as_it_is_printed() -> None:
    assert list(printed_grammar()) == ["script", "step", "number", "digit"]
    for script in ("ch=32|down4|ch/2|ch*1|scl=0", "scl=64|ch=00016"):
        assert GRAMMAR.fullmatch(script)
        assert is_accepted(script)
    for script in ("", "|", "ch", "ch32", "down=2", "scl*2", "ch=1|", "|ch=1", "ch=1 ch=2", "CH=1"):
        assert not GRAMMAR.fullmatch(script)
        assert not is_accepted(script)


@given(scripts)
def test_what_the_grammar_makes_is_accepted(script: str) -> None:
    assert is_accepted(script) == is_within_bounds(script)


@given(st.lists(st.sampled_from(["ch=8", "ch*2", "ch/2", "down3", "scl=2"]), min_size=1, max_size=30))
def test_every_step_may_follow_every_other(steps: list[str]) -> None:
    script = "|".join(steps)
    assert GRAMMAR.fullmatch(script)
    assert [script[step.position :].partition("|")[0] for step in parse_script(script)] == steps


@given(scripts, st.data())
def test_what_the_grammar_does_not_make_is_refused(script: str, data: st.DataObject) -> None:
    """A script with one character put in, taken out or changed is accepted where it still follows."""
    at = data.draw(st.integers(0, len(script)))
    put = data.draw(st.sampled_from(["", *"chdownsl=*/|0159x-+.Ä"]))
    changed = script[:at] + put + script[at + data.draw(st.integers(0, 1)) :]
    assert is_accepted(changed) == bool(GRAMMAR.fullmatch(changed) and is_within_bounds(changed))


@given(scripts, st.data())
def test_spaces_between_the_words_do_not_matter(script: str, data: st.DataObject) -> None:
    words = re.findall(r"[a-z]+|\d+|\S", script)
    spaced = "".join(data.draw(st.sampled_from(["", " ", "\n", "\t  "])) + word for word in words)
    assert is_accepted(spaced) == is_accepted(script)


def test_the_limits_that_the_page_states() -> None:
    assert "1,000 steps" in PAGE
    assert "512 convolutions" in PAGE
    assert len(parse_script("|".join(["ch*1"] * 1_000))) == 1_000
    with pytest.raises(ScriptError, match="more than 1,000 steps"):
        parse_script("|".join(["ch*1"] * 1_001))
    assert len(plan_script("|".join(["ch*1"] * 512), (1, 8, 8))[0]) == 512
    with pytest.raises(ScriptError, match="more than 512 convolutions"):
        plan_script("|".join(["ch*1"] * 513), (1, 8, 8))
