"""Damages the cache of compiled code between and during runs: each run ends as one that nobody disturbed.

    python -m tests.faults.caches [--seed 0] [--victims native graph] [--only WAY ...]

Between runs, a damaged file is noticed and made again. During a run, a process may die of a library that is
taken from under it, as of a kill; the next one goes on. `native` compiles in seconds, `graph` takes minutes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from mixcoder.experiments.runs.run_directory import RunDirectory
from tests.faults.forks import Ended, Moment, import_all, memory_folder, run_command, run_forked
from tests.faults.victims import MIXER, PLUGIN, Victim, outcome

TRAINED = {
    "native": Victim("{source: digits}", f"{MIXER}, mixer: cnnf", "compile: on"),
    "graph": Victim("{source: digits}", 'type: script, script: "ch=4|down2|ch*1|ch=1"', "compile: on"),
}
DIED_OF_IT = (-signal.SIGBUS, -signal.SIGSEGV, -signal.SIGILL)
KILLS = 5


def _flip(path: Path, dice: Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(dice.choice([1, 1, 9])):
        content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    path.write_bytes(content)


def _swap(path: Path, dice: Random) -> None:
    other = path.with_name("other")
    other.write_bytes(dice.randbytes(path.stat().st_size))
    other.replace(path)


def _link(path: Path, dice: Random) -> None:
    path.unlink()
    path.symlink_to("/proc/self/exe")


BETWEEN: dict[str, Callable[[Path, Random], object]] = {
    "emptied": lambda path, dice: os.truncate(path, 0),
    "cut": lambda path, dice: os.truncate(path, dice.randrange(path.stat().st_size)),
    "cut at the end": lambda path, dice: os.truncate(path, path.stat().st_size - 1),
    "longer": lambda path, dice: path.write_bytes(path.read_bytes() + dice.randbytes(99)),
    "flipped": _flip,
    "flipped elsewhere": _flip,
    "zeros": lambda path, dice: path.write_bytes(bytes(path.stat().st_size)),
    "of other content": _swap,
    "a link": _link,
    "removed": lambda path, dice: path.unlink(),
}
DURING = {key: BETWEEN[key] for key in ("emptied", "cut", "of other content", "a link", "removed")}
WAYS = [
    *(f"{kind}, between runs" for kind in BETWEEN),
    *(f"{kind}, during a run" for kind in DURING),
    *(f"killed while it compiles {number}" for number in range(KILLS)),
]


class Bench:
    """A run of one kind, its cache, and what it ends with when nobody disturbs it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder / name
        self.folder.mkdir()
        self.file = self.folder / "victim.yml"
        self.file.write_text(TRAINED[name].experiment(name))
        self.cache = self.folder / "cache" / "mixcoder"
        self._runs = 0
        ended = self.train()
        assert not ended.status, ended.said
        self.expected = self.outcome()
        self.whole = self.folder / "whole"
        shutil.copytree(self.cache, self.whole, symlinks=True)

    def train(self, moment: Moment | None = None) -> Ended:
        """A new run; None of its process is shared with another's."""
        self._runs += 1
        return self.go_on(moment)

    def go_on(self, moment: Moment | None = None) -> Ended:
        """The same run once more."""
        arguments = ["--plugin", str(PLUGIN), "run", "victim.yml", "--runs", f"runs {self._runs}"]
        return run_forked(arguments, self.folder, {"XDG_CACHE_HOME": str(self.cache.parent)}, moment)

    def outcome(self) -> dict[str, object]:
        """What the run ended with."""
        [directory] = (self.folder / f"runs {self._runs}").glob("*/*")
        return outcome(RunDirectory(directory), self.folder / "no packs")

    def mend(self) -> None:
        """Makes the cache whole again."""
        shutil.rmtree(self.cache)
        shutil.copytree(self.whole, self.cache, symlinks=True)

    def compiled(self) -> list[Path]:
        """The files of compiled code."""
        files = (path for path in sorted(self.cache.rglob("*")) if path.is_file() and not path.is_symlink())
        return [path for path in files if path.suffix in (".so", ".pt2")]

    def verdict(self, ended: Ended) -> str:
        """What is wrong with how a run ended; empty where nothing is."""
        if ended.status or ended.has_traceback:
            return f"ended with {ended.status}: {ended.said[-1000:]}"
        found = self.outcome()
        differing = [key for key in found if found[key] != self.expected[key]]
        return f"unequal: {', '.join(differing)}" if differing else ""


def damage_between(bench: Bench, damage: Callable[[Path, Random], object], dice: Random) -> str:
    """Damages all compiled code; what is wrong with the next run, and with the one after it."""
    bench.mend()
    for path in bench.compiled():
        damage(path, dice)
    return bench.verdict(bench.train()) or bench.verdict(bench.train())


def damage_during(bench: Bench, damage: Callable[[Path, Random], object], dice: Random) -> str:
    """Damages all compiled code while a run trains; what is wrong with it once it has gone on."""
    bench.mend()
    runs = bench.folder / f"runs {bench._runs + 1}"

    def damage_when_it_trains() -> None:
        while not (list(runs.glob("*/*/metrics.jsonl")) or has_ended.wait(0.01)):
            pass
        has_ended.wait(dice.uniform(0, 0.05))
        for path in bench.compiled():
            damage(path, dice)

    arguments = ["--plugin", str(PLUGIN), "run", "victim.yml", "--runs", runs.name]
    bench._runs += 1
    has_ended = threading.Event()
    other = threading.Thread(target=damage_when_it_trains)
    other.start()
    ended = run_command(arguments, bench.folder, {"XDG_CACHE_HOME": str(bench.cache.parent)})
    has_ended.set()
    other.join()
    return bench.verdict(bench.go_on() if ended.status in DIED_OF_IT else ended)


def kill_while_it_compiles(bench: Bench, dice: Random) -> str:
    """Kills a run that has to compile; what is wrong with the next one."""
    shutil.rmtree(bench.cache)
    start = time.perf_counter()
    assert not bench.train().status
    seconds = time.perf_counter() - start
    shutil.rmtree(bench.cache)
    ended = bench.train(Moment(seconds=dice.uniform(0, seconds)))
    assert ended.is_killed or not ended.status, ended.said
    return bench.verdict(bench.go_on())


def disturb(bench: Bench, way: str, seed: int) -> str:
    """Disturbs the cache in one way; what is wrong with the runs after it."""
    dice = Random(f"{seed} {way}")
    kind, _, moment = way.partition(", ")
    if moment == "between runs":
        return damage_between(bench, BETWEEN[kind], dice)
    return damage_during(bench, DURING[kind], dice) if moment else kill_while_it_compiles(bench, dice)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--victims", nargs="+", choices=list(TRAINED), default=list(TRAINED))
    parser.add_argument("--only", nargs="+", choices=WAYS, default=WAYS, metavar="WAY")
    options = parser.parse_args()
    import_all()
    verdicts: dict[str, str] = {}
    with tempfile.TemporaryDirectory(dir=memory_folder()) as folder:
        for name in options.victims:
            bench = Bench(Path(folder).resolve(), name)
            verdicts |= {f"{name}: {way}": disturb(bench, way, options.seed) for way in options.only}
    wrong = {way: problem for way, problem in verdicts.items() if problem}
    print(f"{len(verdicts)} caches disturbed, {len(wrong)} wrong (seed {options.seed})")
    for way, problem in wrong.items():
        print(f"  {way}: {problem}")
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
