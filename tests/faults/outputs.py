"""Kills commands that write for the user: reports, plots, pictures, codes, models, packed folders.

    python -m tests.faults.outputs [--kills 100] [--seed 0] [--only NAME ...]

What a command is to write stands there already, with an old content. A killed command has left it whole, old
or new, and every other file as it was; the same command once more then writes the new one. Three of four
kills come around a file operation, where a file may be half done; the others by the clock.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.faults.forks import CALLS, Ended, Moment, import_all, memory_folder, run_forked
from tests.faults.victims import make_photos

EXPERIMENT = """\
name: tiny
data: {source: digits}
model: {type: mixer, patch_size: 4, hidden_channels: [4], latent_dim: 3}
training: {steps: 6, batch_size: 8, validations: 3, learning_rate: "${rate}", compile: off}
matrix: {rate: [0.001, 0.01]}
"""
RUN = "RUN"
"""Stands for the run directory."""
COMMANDS = {
    "page.html": ["report", "tiny.yml", "-o"],
    "curves.svg": ["plot", "tiny.yml", "-o"],
    "curves.png": ["plot", "tiny.yml", "-o"],
    "pareto.pdf": ["plot", "tiny.yml", "--pareto", "params", "-o"],
    "schema.json": ["schema", "-o"],
    "pairs.png": ["reconstruct", RUN, "-o"],
    "codes.safetensors": ["encode", RUN, "digits:train", "-o"],
    "few-bits.safetensors": ["encode", RUN, "digits:train", "--bits", "6", "-o"],
    "grid.png": ["decode", RUN, "sound.safetensors", "-o"],
    "images": ["decode", RUN, "sound.safetensors", "-o"],
    "walk.png": ["walk", RUN, "digits:1", "digits:2", "-o"],
    "copied": ["experiments", "cp", "mnist/kernel-sizes"],
    "cache/mixcoder/packed": ["data", "fetch", "folder", "path=photos", "crop_size=16"],
    "no file": ["table", "tiny.yml", "--format", "csv"],
}
"""The command by what it writes, which most are told last."""
TOLD = [name for name in COMMANDS if name not in ("cache/mixcoder/packed", "no file")]
OLD = b"old"
BY_THE_CLOCK = 0.25

Files = dict[str, bytes]
"""Contents by path below the folder."""


@dataclass
class Report:
    """What came of it.

    Attributes:
        kills: how many commands were killed, by what had become of their output.
        wrong: what was torn, changed beside the output, not written again, or told in a traceback.
    """

    kills: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def prepare(folder: Path) -> None:
    """Trains the runs that commands read, and encodes what is to be decoded."""
    (folder / "tiny.yml").write_text(EXPERIMENT)
    make_photos(folder / "photos")
    for rate in ("0.001", "0.01"):
        one = folder / f"{rate}.yml"
        one.write_text(EXPERIMENT.partition("matrix")[0].replace('"${rate}"', rate))
        _checked(run_forked(["run", one.name], folder, _variables(folder)))
    encode = ["encode", _run(folder), "digits:7", "digits:8", "-o", "sound.safetensors"]
    _checked(run_forked(encode, folder, _variables(folder)))


def _checked(ended: Ended) -> Ended:
    assert not ended.status, ended.said
    return ended


def _variables(folder: Path) -> dict[str, str]:
    return {"XDG_CACHE_HOME": str(folder / "cache")}


def _run(folder: Path) -> str:
    return str(min((folder / "runs" / "tiny").iterdir()).relative_to(folder))


def kill_all(folder: Path, names: list[str], kills: int, seed: int) -> Report:
    """Kills the commands, `kills` times together."""
    report = Report()
    prepare(folder)
    for position, name in enumerate(names):
        share = kills // len(names) + (position < kills % len(names))
        _kill_one(folder, name, share, Random(f"{seed} {name}"), report)
    return report


def _kill_one(folder: Path, name: str, kills: int, dice: Random, report: Report) -> None:
    """Kills one command so often; then lets it write."""
    arguments = [_run(folder) if each == RUN else each for each in COMMANDS[name]]
    arguments += [name] if name in TOLD else []
    before = _beside(folder, name)
    whole = _checked(run_forked(arguments, folder, _variables(folder)))
    new = _files(folder / name)
    for moment in _moments(dice, whole, kills):
        _make_old(folder / name)
        ended = run_forked(arguments, folder, _variables(folder), moment)
        if ended.is_killed:
            report.kills[_state(_files(folder / name), new)] += 1
        elif ended.status:
            report.wrong.append(f"{name}, {moment}: ended with {ended.status}: {ended.said}")
        problems = [*_torn(_files(folder / name), new), *_changed(before, _beside(folder, name))]
        problems += ["printed a traceback"] if ended.has_traceback else []
        report.wrong += [f"{name}, {moment}: {problem}" for problem in problems]
    again = run_forked(arguments, folder, _variables(folder))
    if again.status or _without_parts(_files(folder / name)) != new:
        report.wrong.append(f"{name}: once more ends with {again.status}, or other content: {again.said}")


def _moments(dice: Random, whole: Ended, count: int) -> Iterator[Moment]:
    """Moments within the time of a whole command: around its file operations, and by the clock."""
    around = [Moment(None, number, calls) for number in range(1, whole.operations + 1) for calls in CALLS]
    dice.shuffle(around)
    for number in range(count):
        if dice.random() < BY_THE_CLOCK or not around:
            yield Moment(seconds=dice.uniform(0, whole.seconds))
        else:
            yield around[number % len(around)]


def _make_old(path: Path) -> None:
    """Gives a file its old content; a folder has none."""
    if path.is_dir():
        shutil.rmtree(path)
    elif path.exists():
        path.write_bytes(OLD)


def _state(found: Files, new: Files) -> str:
    if list(_torn(found, new)):
        return "torn"
    if found == new:
        return "new"
    return "old" if set(found.values()) <= {OLD} else "in part, each file whole"


def _torn(found: Files, new: Files) -> Iterator[str]:
    """What of an output is neither old nor new; a packing that was cut off keeps what it goes on from."""
    for place, content in found.items():
        is_leftover = place not in new and Path(place).suffix in (".part", ".journal")
        if not is_leftover and content not in (OLD, new.get(place)):
            yield f"'{place}' is torn, or was never to be there"
    if "" in new and "" not in found:
        yield "it is gone"


def _without_parts(files: Files) -> Files:
    """The files but the hidden ones that were being written when a command was killed."""
    return {place: content for place, content in files.items() if Path(place).suffix != ".part"}


def _changed(before: Files, after: Files) -> list[str]:
    """The files beside the output that are others than before."""
    return [f"{place} changed" for place in before | after if before.get(place) != after.get(place)]


def _beside(folder: Path, name: str) -> Files:
    """All files but the output, the cache and what the command says."""
    own = (name, "cache", "said.txt")
    files = {place: content for place, content in _files(folder).items() if not place.startswith(own)}
    return {place: content for place, content in files.items() if not Path(place).name.startswith(".")}


def _files(path: Path) -> Files:
    """The files at or below a path, without locks."""
    paths = [path] if path.is_file() else path.rglob("*")
    return {
        "" if each == path else each.relative_to(path).as_posix(): each.read_bytes()
        for each in paths
        if each.is_file() and each.suffix != ".lock"
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=list(COMMANDS), default=list(COMMANDS), metavar="NAME")
    options = parser.parse_args()
    import_all()
    with tempfile.TemporaryDirectory(dir=memory_folder()) as folder:
        report = kill_all(Path(folder).resolve(), options.only, options.kills, options.seed)
    print(
        f"{report.kills.total()} kills of {len(options.only)} commands of seed {options.seed}; left behind:"
    )
    for state, count in report.kills.most_common():
        print(f"  {count:4} {state}")
    print(f"{len(report.wrong)} wrong")
    for line in report.wrong:
        print(f"  {line}")
    raise SystemExit(bool(report.wrong))


if __name__ == "__main__":
    main()
