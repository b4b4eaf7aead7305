"""What the repository keeps of what a command prints is what it prints now."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Cli
from tests.generated import BEGIN, DOCUMENT, END, OWN_NETWORKS, REPORTS, SCHEMA, generated


@pytest.mark.parametrize("path", [SCHEMA, DOCUMENT, REPORTS, OWN_NETWORKS], ids=lambda path: path.name)
def test_is_current(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == generated()[path], "make schema writes it anew"


def test_is_what_the_command_prints(cli: Cli) -> None:
    assert cli("schema") == (0, SCHEMA.read_text(encoding="utf-8"), "")
    tables = cli("schema", "--format", "md")[1]
    assert f"{BEGIN}\n{tables}\n{END}" in DOCUMENT.read_text(encoding="utf-8")
