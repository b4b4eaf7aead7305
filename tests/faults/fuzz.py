"""Opens broken experiment files, scripts and IDX files by the thousand, and counts what comes of them.

    python -m tests.faults.fuzz [--cases 100000] [--seed 0]
    python -m tests.faults.fuzz --repeat FILE

Each case is drawn from a seed of its own and opened in a process that may take a gigabyte more. It is sound,
and what is made of it is checked; or it is refused in a sentence that says where and what. Anything else is a
failure, and so is more than a second of processor time; the case is then kept in a file for `--repeat`.
"""

from __future__ import annotations

import argparse
import json
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any, Protocol

from mixcoder.errors import MixcoderError
from mixcoder.safe_text import sanitize
from tests.faults import broken_experiments, broken_idx, broken_scripts
from tests.faults.strangers import limit_memory

MOST_SECONDS = 1.0
"""Of processor time, for one case."""
KEPT = Path("faults")
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
    "experiments": (broken_experiments, 0.4),
    "scripts": (broken_scripts, 0.3),
    "idx": (broken_idx, 0.3),
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


def fuzz(cases: int, seed: int, kept: Path, most_seconds: float = MOST_SECONDS) -> dict[str, Tally]:
    """What comes of so many cases, opened in the current folder; those that fail are kept in `kept`."""
    return {
        name: _fuzz_kind(name, round(cases * share), seed, kept, most_seconds)
        for name, (_, share) in KINDS.items()
    }


def _fuzz_kind(name: str, cases: int, seed: int, kept: Path, most_seconds: float) -> Tally:
    tally = Tally()
    for number in range(cases):
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
    return tally


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


def _repeat(path: Path) -> None:
    """Opens one kept case; what goes wrong is shown with its traceback."""
    content = json.loads(path.read_text())
    KINDS[content["kind"]][0].prepare()
    is_sound, seconds = open_case(content["kind"], content["case"])
    print(f"{'sound' if is_sound else 'refused'}, {seconds:.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=MOST_SECONDS, help="what a case may take")
    parser.add_argument("--repeat", type=Path, help="a file that a failed case was kept in")
    options = parser.parse_args()
    kept, repeated = KEPT.absolute(), options.repeat and options.repeat.absolute()
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        if repeated:
            _repeat(repeated)
            return
        for kind, _ in KINDS.values():
            kind.prepare()
        limit_memory()
        tallies = fuzz(options.cases, options.seed, kept, options.seconds)
    for name, tally in tallies.items():
        print(
            f"{tally.cases:6} {name}: {tally.sound} sound, {tally.refused} refused, "
            f"{len(tally.failures)} failed, slowest {tally.slowest:.2f} s"
        )
    failures = [line for tally in tallies.values() for line in tally.failures]
    print(f"{len(failures)} failed")
    for line in failures:
        print(f"  {line}")
    raise SystemExit(bool(failures))


if __name__ == "__main__":
    main()
