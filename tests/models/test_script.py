"""The script language: what it accepts, what it says of the rest, and the networks it makes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mixcoder.errors import ArgumentError, ScriptError
from mixcoder.models import create_model
from mixcoder.models.script import parse_script, plan_script


def test_spaces_and_lines_do_not_matter() -> None:
    tight = plan_script("scl=2|ch=8|down2|ch/4|scl=0|ch*3", (1, 4, 6))
    loose = plan_script(" scl = 2 | ch = 8\n| down 2 |\tch / 4 | scl = 0\n| ch * 3\n", (1, 4, 6))
    assert tight == loose
    assert tight[1] == (24, 2, 3)


@pytest.mark.parametrize(
    ("script", "sentence", "column"),
    [
        ("", "expected 'ch', 'down' or 'scl', found the end", 0),
        ("ch=8|", "expected 'ch', 'down' or 'scl', found the end", 5),
        ("ch=8||ch=1", "expected 'ch', 'down' or 'scl', found '|'", 5),
        ("ch=8|dwn2", "expected 'ch', 'down' or 'scl', found 'dwn'", 5),
        ("ch8", "expected '=' or '*' or '/', found '8'", 2),
        ("scl*3|ch=1", "expected '=', found '*'", 3),
        ("down|ch=1", "expected a whole number, found '|'", 4),
        ("ch=", "expected a whole number, found the end", 3),
        ("ch=8 down2", "expected '|' or the end, found 'down'", 5),
        ("ch=8;ch=1", "expected '|' or the end, found ';'", 4),
        ("ch=-1", "expected a whole number, found '-'", 3),
        ("ch=1.5", "expected '|' or the end, found '.'", 4),
        ("ch/0", "expected a number from 1 to 65536, found 0", 3),
        ("down0|ch=1", "expected a number from 1 to 65536, found 0", 4),
        ("ch=99999999999999999999999", "expected a number from 1 to 65536, found 99999999999999999999", 3),
        ("ch=8|ch/3", "8 channels cannot be divided by 3; divisors are 2, 4, 8", 8),
        (
            "ch=8|down3",
            "a picture of 28 x 28 cannot be scaled down by 3; factors that fit: 2, 4, 7, 14, 28",
            9,
        ),
        ("ch=65536|down2|ch*9", "2359296 channels are more than the 65536 allowed", 18),
    ],
)
def test_errors_point_at_the_character(script: str, sentence: str, column: int) -> None:
    with pytest.raises(ScriptError) as caught:
        plan_script(script, (1, 28, 28))
    message, shown, caret = str(caught.value).split("\n")
    assert message == f"script: {sentence}"
    assert shown == f"  {script}"
    assert caret == "  " + " " * column + "^"


def test_the_caret_finds_its_line() -> None:
    with pytest.raises(ScriptError) as caught:
        parse_script("ch=8 |\ndown2 | chh=1\n| ch=1")
    assert str(caught.value).split("\n")[1:] == ["  down2 | chh=1", "          ^"]


def test_a_script_must_train_something() -> None:
    with pytest.raises(ArgumentError, match="has no convolution to train"):
        plan_script("down2", (1, 4, 4))


def test_takes_any_size_that_divides() -> None:
    model = create_model("script", image_shape=(3, 16, 16), script="ch=4|down4|ch/16|ch=2", activation="relu")
    images = torch.rand(2, 3, 8, 20)
    assert model.encode(images).shape == (2, 2, 2, 5)
    assert model(images).shape == images.shape
    with pytest.raises(ValueError, match="divisible by 4, got"):
        model(torch.rand(2, 3, 8, 18))
    with pytest.raises(ValueError, match=r"latents must have shape \(B, 2, h, w\)"):
        model.decode(torch.rand(2, 3, 4, 4))


def test_non_square_images() -> None:
    model = create_model("script", image_shape=(1, 6, 10), script="down2|ch=3")
    assert model.latent_shape == (3, 3, 5)
    assert model(torch.rand(1, 1, 6, 10)).shape == (1, 1, 6, 10)


@given(st.text(alphabet="chdownsl0123456789=*/| \n#x", max_size=40))
def test_any_text_is_a_script_or_a_clear_error(script: str) -> None:
    try:
        stages, latent_shape = plan_script(script, (1, 24, 24))
    except ArgumentError as error:
        assert "script: " in str(error)
    else:
        assert stages
        assert min(latent_shape) >= 1


@pytest.mark.parametrize("hidden", ["\x1b[2J", "\ud800", "\u202e", "\x00"])
def test_what_hides_is_shown(hidden: str) -> None:
    """A terminal is given no command, and no half of a letter."""
    with pytest.raises(ScriptError) as caught:
        parse_script(f"ch=8 |\tdown2 | {hidden}")
    message, shown, caret = str(caught.value).split("\n")
    assert message.isprintable()
    assert shown.startswith("  ch=8 | down2 | �")
    assert shown.isprintable()
    assert caret == "  " + " " * 15 + "^"


def test_digits_are_those_of_the_grammar() -> None:
    with pytest.raises(ScriptError, match="expected a whole number, found '٣'"):
        parse_script("ch=٣")


def test_an_activation_that_nothing_uses_must_be_one() -> None:
    with pytest.raises(ArgumentError, match="unknown activation 'gelo'"):
        create_model("script", image_shape=(1, 4, 4), script="ch=1", activation="gelo")


def test_an_endless_image_shape_is_told_in_short() -> None:
    with pytest.raises(ArgumentError, match="must be three whole numbers") as caught:
        create_model("script", image_shape=[1] * 100_000, script="ch=1")
    assert len(str(caught.value)) < 200
