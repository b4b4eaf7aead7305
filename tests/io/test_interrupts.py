"""Ctrl-C: told in one sentence at any moment, and never lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mixcoder.io.interrupts import check_interrupted, is_interrupted, noting_interrupts
from tests.cli.test_streams import FILE
from tests.conftest import slow_but

START = """\
import sys
from mixcoder.__main__ import main
sys.argv[1:] = ["run", "b.yml"]
COMMAND = "mixcoder.cli.app"
sys.addaudithook(lambda event, what: event == "import" and what[0] == COMMAND and print(flush=True))
main()
"""
"""The command, which prints an empty line as soon as it begins to import itself."""


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_one_that_was_swallowed_is_raised_again() -> None:
    with noting_interrupts():
        assert not is_interrupted()
        check_interrupted()
        with pytest.raises(KeyboardInterrupt):
            interrupt()
        assert is_interrupted()
        with pytest.raises(KeyboardInterrupt):
            check_interrupted()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with noting_interrupts():
        assert not is_interrupted()


def test_where_it_is_ignored_it_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with noting_interrupts():
            interrupt()
            assert not is_interrupted()
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("seconds", slow_but(1, [2.0, 0.0, 0.4, 1.2, 3.5, 6.0]))
def test_it_is_one_sentence_at_any_moment(tmp_path: Path, seconds: float) -> None:
    (tmp_path / "b.yml").write_text(FILE.replace("640", "600_000_000"))
    process = subprocess.Popen(
        [sys.executable, "-c", START],
        cwd=tmp_path, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 1
    assert out == ""
    last = err.splitlines()[-1]
    assert last == "error: interrupted" or (
        last.startswith("error: interrupted") and last.endswith("; the same command goes on from there")
    )
    assert "Traceback" not in err
