"""The command line itself: its table of commands, its help, its output."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import mixcoder
from mixcoder.cli import lazy
from mixcoder.cli.app import create_app
from mixcoder.cli.lazy import LazyCommand, LazyGroup, add_commands
from mixcoder.cli.reports import CostName
from mixcoder.measures import MEASURES
from tests.conftest import Cli, slow, slow_but


def test_version_and_help(cli: Cli) -> None:
    assert cli("--version") == (0, f"mixcoder {mixcoder.__version__}\n", "")
    assert "reconstruct" in cli("--help")[1]


def test_the_table_of_commands() -> None:
    """Its names and help are those of the functions; every module of the table can be imported."""
    app = create_app()
    groups = [app, *(command for command in app.commands.values() if isinstance(command, LazyGroup))]
    for group in groups:
        for name, command in group.commands.items():
            if isinstance(command, LazyCommand):
                loaded = command.load()
                assert (loaded.name, loaded.help) == (name, command.help)
    assert {"run", "table", "encode", "models"} <= set(app.commands)
    assert [len(group.commands) for group in groups[1:]] == [2, 3, 2]


NEW = """\
def data_hi():
    'Say hi.'

def hi():
    'Say hi to all.'

def _helper():
    pass
"""


def test_a_new_command_is_a_new_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.py").write_text(NEW)
    monkeypatch.setattr(lazy, "__file__", str(tmp_path / "lazy.py"))
    group = LazyGroup()
    add_commands(group, ["own"], {"data": "The data."})
    data = group.commands["data"]
    assert isinstance(data, LazyGroup)
    assert list(group.commands) == ["hi", "data"]
    assert [(name, command.help) for name, command in data.commands.items()] == [("hi", "Say hi.")]


def test_plots_take_every_cost_of_the_measures() -> None:
    assert set(CostName) == {measure.cost for measure in MEASURES if measure.cost}


def test_a_command_that_there_is_not(cli: Cli) -> None:
    status, _, err = cli("recnstruct")
    assert status == 2
    assert "'reconstruct'" in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize(
    ("place", "status", "said"),
    [(">/dev/full", 1, "error: no space left on device\n"), pytest.param(">&-", 0, "", marks=slow)],
)
def test_output_that_nobody_can_take(place: str, status: int, said: str) -> None:
    """A full disk is told in a sentence; closed output is what the user asked for."""
    command = f"'{sys.executable}' -m mixcoder experiments ls --format json {place}"
    ended = subprocess.run(command, shell=True, stderr=subprocess.PIPE, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (status, said)


@slow
def test_help_is_instant_because_torch_stays_out() -> None:
    """The ratio to an empty interpreter in one run, so that a slow machine slows both."""
    program = (
        "import sys; from mixcoder.cli.app import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    )
    check = program + "assert not {'torch', 'numpy', 'pydantic'} & set(sys.modules), sys.modules.keys()\n"
    subprocess.run([sys.executable, "-c", check], check=True, capture_output=True)

    def seconds(code: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        return time.perf_counter() - start

    help_seconds = min(seconds(program) for _ in range(3))
    torch_seconds = min(seconds("import torch") for _ in range(3))
    assert help_seconds < torch_seconds


@pytest.mark.parametrize("encoding", slow_but(0, ["ascii", "latin-1"]))
def test_any_encoding_of_a_terminal_takes_all_that_is_printed(encoding: str) -> None:
    """A character that it lacks appears as its escape."""
    ended = subprocess.run(
        [sys.executable, "-m", "mixcoder", "schema", "--format", "md"],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert rb"\u2265" in ended.stdout
