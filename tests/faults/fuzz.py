"""Opens broken files of every kind by the thousand, and counts what comes of them.

    python -m tests.faults.fuzz [--cases 100000] [--seed 0]     again after an interruption: goes on
    python -m tests.faults.fuzz --cases 1_000_000 --show        the figures so far
    python -m tests.faults.fuzz --repeat FILE                   a kept case once more

Each case is drawn from a seed of its own and opened in a process that may take a gigabyte more. It is sound,
and what is made of it is checked; or it is refused in a sentence that says where and what. Anything else is a
failure, and so is more than a second of processor time; the case is then kept in a file for `--repeat`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any, Protocol

import torch

from mixcoder.errors import MixcoderError
from mixcoder.text.sanitize import sanitize
from tests.faults import (
    broken_codes,
    broken_experiments,
    broken_idx,
    broken_images,
    broken_names,
    broken_runs,
    broken_scripts,
    broken_stores,
)
from tests.faults.forks import memory_folder
from tests.faults.kept_state import KEPT, read_state, until_interrupted, write_state
from tests.faults.strangers import limit_memory

MOST_SECONDS = 1.0
"""Of processor time, for one case."""
ROUND = 2_000
"""Cases of all kinds that one process opens; then the figures are kept, and the next process begins."""
_SECONDS_TO_END = 30
"""After which a case is cut off."""


class Kind(Protocol):
    """A module that breaks one kind of file. A case is a map as JSON has it."""

    def draw(self, dice: Random) -> dict[str, Any]: ...
    def prepare(self) -> None: ...
    def read(self, case: dict[str, Any]) -> Any: ...
    def check_sound(self, case: dict[str, Any], value: Any) -> None: ...
    def check_refusal(self, case: dict[str, Any], message: str) -> None: ...


KINDS: dict[str, tuple[Kind, float]] = {
    "experiments": (broken_experiments, 0.2),
    "scripts": (broken_scripts, 0.2),
    "idx": (broken_idx, 0.15),
    "runs": (broken_runs, 0.15),
    "images": (broken_images, 0.15),
    "stores": (broken_stores, 0.05),
    "codes": (broken_codes, 0.05),
    "names": (broken_names, 0.05),
}
"""Each kind, and its share of the cases."""


@dataclass
class Tally:
    """What came of the cases of a kind.

    Attributes:
        sound: how many were.
        refused: how many were not, and it was said.
        failures: what went otherwise, with the file that the case is kept in.
        slowest: seconds of processor time of the slowest.
    """

    sound: int = 0
    refused: int = 0
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0

    @property
    def cases(self) -> int:
        """How many there were."""
        return self.sound + self.refused + len(self.failures)


class Stuck(BaseException):
    """A case is cut off. No handler of errors takes it."""


def fuzz(cases: int, seed: int, state: Path, most_seconds: float = MOST_SECONDS) -> dict[str, Tally]:
    """What comes of so many cases, opened in the current folder, going on from the figures kept in `state`.

    Those that fail are kept beside it.
    """
    kept = read_state(state) or {"kinds": {}}
    tallies = {name: Tally(**kept["kinds"].get(name, {})) for name in KINDS}
    with until_interrupted():
        for end in [*range(ROUND, cases, ROUND), cases]:
            for name, (_, share) in KINDS.items():
                numbers = range(tallies[name].cases, round(end * share))
                tallies[name] = _in_a_fork(name, numbers, seed, state.parent, most_seconds, tallies[name])
            kinds = {name: vars(tally) for name, tally in tallies.items()}
            write_state(state, {"kinds": kinds}, end >= cases)
    return tallies


def _in_a_fork(name: str, numbers: range, seed: int, kept: Path, most_seconds: float, tally: Tally) -> Tally:
    """The tally with the cases of these numbers, opened in a process with little memory."""
    if not numbers:
        return tally
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        with _last_of_a_process():
            os.chdir(name)
            limit_memory()
            for number in numbers:
                open_counted(name, number, seed, kept, most_seconds, tally)
            with os.fdopen(writer, "w") as pipe:
                json.dump(vars(tally), pipe)
    os.close(writer)
    try:
        with os.fdopen(reader) as pipe:
            counted = pipe.read()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    if counted:
        return Tally(**json.loads(counted))
    if len(numbers) > 1:  # one of them ended the process: which?
        for number in numbers:
            tally = _in_a_fork(name, range(number, number + 1), seed, kept, most_seconds, tally)
        return tally
    failure = f"{name}, seed {seed}, case {numbers[0]}: its process ended with {status}"
    return Tally(tally.sound, tally.refused, [*tally.failures, failure], tally.slowest)


@contextmanager
def _last_of_a_process() -> Iterator[None]:
    """Ends a forked process after the `with` block. C libraries tell nobody of damaged images."""
    status = 1
    try:
        os.setsid()  # Ctrl-C is for the harness
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        sys.stderr = os.fdopen(os.dup(2), "w")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        yield
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def open_counted(name: str, number: int, seed: int, kept: Path, most_seconds: float, tally: Tally) -> None:
    """Draws a case, opens it, and counts what comes of it."""
    case = KINDS[name][0].draw(Random(f"{name} {seed} {number}"))
    try:
        is_sound, seconds = open_case(name, case)
        tally.slowest = max(tally.slowest, seconds)
        assert seconds <= most_seconds, f"took {seconds:.1f} s"
        tally.sound += is_sound
        tally.refused += not is_sound
    except (Exception, Stuck) as error:
        path = kept / f"{name}-{seed}-{number}.json"
        kept.mkdir(exist_ok=True)
        path.write_text(json.dumps({"kind": name, "case": case}))
        tally.failures.append(f"{path}: {type(error).__name__}: {sanitize(str(error), 300)}")


def open_case(name: str, case: dict[str, Any]) -> tuple[bool, float]:
    """Whether a case is sound, and the seconds of processor time that it took to say.

    Raises:
        AssertionError: what is made of it is not right, or what is said of it.
        Exception: any other than a MixcoderError.
    """
    kind, _ = KINDS[name]
    refusal = None
    start = time.process_time()
    try:
        with _cut_off():
            value = kind.read(case)
    except MixcoderError as error:
        refusal = str(error)
    seconds = time.process_time() - start
    if refusal is None:
        kind.check_sound(case, value)
    else:
        kind.check_refusal(case, refusal)
    return refusal is None, seconds


@contextmanager
def _cut_off() -> Iterator[None]:
    """Ends the `with` block when it does not end by itself."""

    def end(signum: int, frame: FrameType | None) -> None:
        raise Stuck(f"not done after {_SECONDS_TO_END} s")

    signal.signal(signal.SIGPROF, end)
    signal.setitimer(signal.ITIMER_PROF, _SECONDS_TO_END)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _prepare(name: str) -> None:
    """Makes a folder for the cases of a kind in the current one, and what they need."""
    Path(name).mkdir()
    with chdir(name):
        KINDS[name][0].prepare()


def _repeat(path: Path) -> None:
    """Opens one kept case; what goes wrong is shown with its traceback."""
    content = json.loads(path.read_text())
    _prepare(content["kind"])
    with chdir(content["kind"]):
        is_sound, seconds = open_case(content["kind"], content["case"])
    print(f"{'sound' if is_sound else 'refused'}, {seconds:.2f} s")


def _show(tallies: dict[str, Tally]) -> None:
    for name, tally in tallies.items():
        print(
            f"{tally.cases:9,} {name}: {tally.sound:,} sound, {tally.refused:,} refused, "
            f"{len(tally.failures)} failed, slowest {tally.slowest:.2f} s"
        )
    failures = [line for tally in tallies.values() for line in tally.failures]
    print(f"{len(failures)} failed of {sum(tally.cases for tally in tallies.values()):,}")
    for line in failures:
        print(f"  {line}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=MOST_SECONDS, help="what a case may take")
    parser.add_argument("--repeat", type=Path, help="a file that a failed case was kept in")
    parser.add_argument("--show", action="store_true", help="print what was reached, open nothing")
    parser.add_argument("--kept", type=Path, default=KEPT, help="where figures and failures are kept")
    options = parser.parse_args()
    state = options.kept.absolute() / f"fuzz-{options.cases}-seed-{options.seed}.json"
    repeated = options.repeat and options.repeat.absolute()
    if options.show:
        kinds = json.loads(state.read_text())["kinds"]
        _show({name: Tally(**figures) for name, figures in kinds.items()})
        return
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=memory_folder()) as folder, chdir(folder):
        if repeated:
            _repeat(repeated)
            return
        for name in KINDS:
            _prepare(name)
        tallies = fuzz(options.cases, options.seed, state, options.seconds)
    _show(tallies)
    raise SystemExit(any(tally.failures for tally in tallies.values()))


if __name__ == "__main__":
    main()
