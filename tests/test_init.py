"""The public names of the package."""

from __future__ import annotations

import subprocess
import sys

import pytest

import mixcoder


def test_the_public_names_are_all_there() -> None:
    assert sorted(mixcoder.__all__) == sorted(mixcoder._HOMES)
    for name in mixcoder.__all__:
        assert getattr(mixcoder, name).__doc__
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = mixcoder.nonsense


def test_the_public_names_are_listed_and_nothing_is_imported_for_it() -> None:
    code = "import mixcoder, sys; print(*dir(mixcoder)); print('torch' in sys.modules)"
    listed, has_torch = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    public = [name for name in listed.split() if not name.startswith("__")]
    assert public == sorted(mixcoder.__all__)
    assert "__version__" in listed.split()
    assert has_torch == "False"
    assert all(hasattr(mixcoder, name) for name in public)
