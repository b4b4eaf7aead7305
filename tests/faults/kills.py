"""Kills training runs at random moments, lets them go on, and compares them with runs that were let alone.

    python -m tests.faults.kills [--kills 100] [--seed 0]     again after an interruption: goes on
    python -m tests.faults.kills --kills 10_000 --show        the figures so far
    python -m tests.faults.kills --seed 0 --only 17           run 17 of that seed once more

Each run is the command `mixcoder run`, which saves a checkpoint whenever it looks up. Most processes are
forks of this one, killed by the clock or around a file operation; one of twenty is started anew,
killed by the clock, so that start-up is covered. A run goes on until it is done. It is lost where it cannot,
and unequal where its files, weights, metrics or measures differ by a byte from those of a run that nobody
disturbed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from mixcoder.experiments.runs.run_directory import RunDirectory
from tests.faults.forks import (
    Ended,
    Moment,
    drawn_moment,
    import_all,
    memory_folder,
    run_command,
    run_forked,
)
from tests.faults.kept_state import KEPT, read_state, until_interrupted, write_state
from tests.faults.victims import PLUGIN, VICTIMS, damage, file_name, outcome, stage, write_victims

MOST_TRIES = 500
COMMANDS = 0.05
"""How many processes are started anew."""


@dataclass
class Report:
    """What came of it.

    Attributes:
        kills: how many processes were killed, by where they were.
        ways: the same, by how they were started and killed.
        victims: the same, by what they trained.
        runs: how many runs came to their end.
        lost: why a checkpoint could not be read, or a run did not go on.
        unequal: which runs ended otherwise than one that was let alone.
        tracebacks: which runs printed one.
    """

    kills: Counter[str] = field(default_factory=Counter)
    ways: Counter[str] = field(default_factory=Counter)
    victims: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    lost: list[str] = field(default_factory=list)
    unequal: list[str] = field(default_factory=list)
    tracebacks: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, state: dict[str, Any]) -> Report:
        """The report that a state holds."""
        kills, ways, victims = (Counter[str](state[key]) for key in ("kills", "ways", "victims"))
        return cls(kills, ways, victims, state["runs"], state["lost"], state["unequal"], state["tracebacks"])

    @property
    def wrong(self) -> list[str]:
        """All that went wrong."""
        return [*self.lost, *self.unequal, *self.tracebacks]

    def show(self) -> None:
        """Prints the figures."""
        total = self.kills.total()
        print(f"{total:,} kills in {self.runs:,} runs of {len(VICTIMS)} kinds:")
        for counter in (self.kills, self.ways, self.victims):
            print("\n".join(f"  {count:6,} {what}" for what, count in counter.most_common()))
            print()
        print(f"{len(self.lost)} lost, {len(self.unequal)} unequal, {len(self.tracebacks)} tracebacks")
        print("\n".join(f"  {line}" for line in self.wrong), end="\n" if self.wrong else "")


class Harness:
    """Runs to be killed, and what each ends with when nobody does.

    Args:
        folder: where all of it is done.
        seed: of all that is drawn; each run has dice of its own, `Random(f"{seed} {number}")`.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.seed = seed
        self._whole: dict[tuple[str, bool], tuple[Ended, dict[str, object]]] = {}
        write_victims(folder)

    def harass(self, number: int, report: Report, most_kills: int) -> None:
        """Kills run `number` again and again, at most so often, until it is done; adds to the report."""
        dice = Random(f"{self.seed} {number}")
        name = list(VICTIMS)[number % len(VICTIMS)]
        told = f"run {number} of seed {self.seed} ({name})"
        runs, cache = f"run {number}", self._cache(name, f"run {number}")
        for _ in range(MOST_TRIES):
            is_command = dice.random() < COMMANDS
            whole, expected = self._undisturbed(name, is_command)
            moment = drawn_moment(dice, whole) if most_kills > 0 else None
            ended = self._train(name, runs, cache, is_command, moment)
            if ended.has_traceback:
                report.tracebacks.append(f"{told}: {ended.said[-2000:]}")
            if not ended.is_killed:
                break
            most_kills -= 1
            directory = self._directory(name, runs)
            report.kills[stage(directory.path, cache)] += 1
            report.ways[_way(is_command, moment)] += 1
            report.victims[name] += 1
            if damaged := damage(directory):
                report.lost.append(f"{told}: {damaged}")
        report.runs += 1
        if ended.status:
            report.lost.append(f"{told}: ended with status {ended.status}: {ended.said[-2000:]}")
            return
        found = outcome(self._directory(name, runs), cache)
        differing = [key for key in expected if found[key] != expected[key]]
        if differing:
            report.unequal.append(f"{told}: {', '.join(differing)}")

    def clear(self, number: int, keep: Path | None) -> None:
        """Removes what a run has left, or moves it to `keep`."""
        for folder in (self.folder / f"run {number}", self.folder / f"cache of run {number}"):
            if keep and folder.exists():
                shutil.copytree(folder, keep / folder.name, dirs_exist_ok=True)
            shutil.rmtree(folder, ignore_errors=True)

    def _undisturbed(self, name: str, is_command: bool) -> tuple[Ended, dict[str, object]]:
        """How long a run takes that is let alone, and what it ends with."""
        if (name, is_command) not in self._whole:
            runs = f"undisturbed {is_command}"
            self._train(name, f"first {is_command}", self._cache(name, "first"), is_command=False)  # compiles
            cache = self._cache(name, runs)
            ended = self._train(name, runs, cache, is_command)
            assert not ended.status, f"{name} cannot be trained: {ended.said}"
            self._whole[name, is_command] = ended, outcome(self._directory(name, runs), cache)
        return self._whole[name, is_command]

    def _train(
        self, name: str, runs: str, cache: Path, is_command: bool, moment: Moment | None = None
    ) -> Ended:
        arguments = ["--plugin", str(PLUGIN), "run", f"{file_name(name)}.yml", "--runs", runs]
        run = run_command if is_command else run_forked
        return run(arguments, self.folder, {"XDG_CACHE_HOME": str(cache.parent)}, moment)

    def _cache(self, name: str, runs: str) -> Path:
        """The user's cache of Mixcoder; each run on crops has its own, and so packs its pictures itself."""
        return self.folder / (f"cache of {runs}" if name == "crops" else "cache") / "mixcoder"

    def _directory(self, name: str, runs: str) -> RunDirectory:
        """Where the only run of that name is, or will be."""
        found = sorted((self.folder / runs / file_name(name)).glob("*"))
        return RunDirectory(found[0] if found else self.folder / runs / "none yet")


def _way(is_command: bool, moment: Moment | None) -> str:
    assert moment
    start = "started anew" if is_command else "forked"
    return f"{start}, {'by the clock' if moment.operation is None else 'around a file operation'}"


def harass_all(kills: int, seed: int, path: Path) -> Report:
    """Kills `kills` processes, going on from the state at `path`, which is kept after every run.

    What is left of a run that went wrong is kept beside it.
    """
    report = Report.of(read_state(path) or vars(Report()))
    import_all()
    with until_interrupted(), tempfile.TemporaryDirectory(dir=memory_folder()) as folder:
        harness = Harness(Path(folder).resolve(), seed)
        while report.kills.total() < kills:
            number, wrong = report.runs, len(report.wrong)
            harness.harass(number, report, kills - report.kills.total())
            is_wrong = len(report.wrong) > wrong
            harness.clear(number, path.with_suffix("") if is_wrong else None)
            write_state(path, vars(report), report.kills.total() >= kills)
    return report


def harass_one(number: int, seed: int, kept: Path) -> Report:
    """Kills one run of that seed; what it has left is kept."""
    report = Report()
    import_all()
    with tempfile.TemporaryDirectory(dir=memory_folder()) as folder:
        harness = Harness(Path(folder).resolve(), seed)
        harness.harass(number, report, MOST_TRIES)
        harness.clear(number, kept)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, metavar="RUN", help="this run alone")
    parser.add_argument("--show", action="store_true", help="print what was reached, kill nothing")
    parser.add_argument(
        "--kept", type=Path, default=KEPT, help="folder of the figures and of what went wrong"
    )
    options = parser.parse_args()
    path = options.kept.absolute() / f"kills-{options.kills}-seed-{options.seed}.json"
    if options.show:
        report = Report.of(json.loads(path.read_text()))
    elif options.only is not None:
        report = harass_one(options.only, options.seed, path.with_suffix(""))
    else:
        report = harass_all(options.kills, options.seed, path)
    report.show()
    raise SystemExit(bool(report.wrong))


if __name__ == "__main__":
    main()
