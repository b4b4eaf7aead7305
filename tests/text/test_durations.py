"""Times read as people write them."""

from __future__ import annotations

import pytest

from mixcoder.text.durations import format_duration


@pytest.mark.parametrize(
    ("minutes", "text"),
    [
        (0.0, "0 s"),
        (0.0001, "0.006 s"),
        (0.5, "30 s"),
        (1.5, "90 s"),
        (2, "2 min"),
        (99.4, "99 min"),
        (116, "1 h 56 min"),
        (125, "2 h 05 min"),
        (60 * 47.99, "47 h 59 min"),
        (60 * 52.2, "2 d 4 h"),
    ],
)
def test_a_duration(minutes: float, text: str) -> None:
    assert format_duration(minutes) == text
