"""Seconds of a training step: the article's 49 MNIST networks and those of experiment files, in one go.

    python -m benchmarks.step_times experiments/small-and-powerful/*.yml -o times.json
    python -m benchmarks.step_times --words "cnn2df k7,CNN" -o some.json      those whose name holds a word
    python -m benchmarks.step_times --show times.json       a table of the own networks beside the reference

Every network takes some steps, then every one again in another order: short bursts, of which the fastest
counts. Nothing else may run meanwhile. `mixcoder plot --pareto time --times times.json` reads the file.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.contest import describe_machine, mixcoder_steps, product_speed
from mixcoder.experiments.file.spec import Run, read_experiment
from mixcoder.experiments.results.article import article_run, article_tables, row_name
from mixcoder.experiments.results.step_times import StepTime, StepTimes, read_step_times, step_key
from mixcoder.io.atomic_file import write_atomically

ROUNDS = 2
BURSTS = 3
BURST_SECONDS = 0.25
FEWEST_STEPS = 4
"""In a burst."""
WARMUP_STEPS = 5
REFERENCE = "cnn2df k7 at 2,3,4"
"""The article's network whose time is the measure of others."""


class Contestant(NamedTuple):
    """A network to be measured."""

    name: str
    run: Run


def article_contestants() -> list[Contestant]:
    """Returns the article's networks for MNIST, as its tables name them."""
    rows = [row for table in article_tables().values() for row in table if row["inputs"] == 1_000_000]
    runs = [Contestant(row_name(row), article_run(row)) for row in rows]
    return [contestant for contestant in runs if contestant.run.data[0] == "mnist"]


def own_contestants(files: Sequence[Path]) -> list[Contestant]:
    """Returns the networks of experiment files, each once, whatever its seeds and rates."""
    found: dict[str, Contestant] = {}
    for file in files:
        for run in read_experiment(file).runs:
            found.setdefault(step_key(run), Contestant(run.experiment, run))
    return list(found.values())


def fastest_step(run: Run) -> float:
    """Returns the seconds of a step, those of the fastest burst."""
    torch.manual_seed(0)
    steps = mixcoder_steps(run.create_model(), **run.recipe.model_dump())
    for _ in range(WARMUP_STEPS):
        float(next(steps))
    seconds = min(_burst(steps) for _ in range(BURSTS))
    steps.close()  # type: ignore[attr-defined]
    return seconds


def _burst(steps: Iterator[Any]) -> float:
    """Returns the seconds of a step, the mean over a burst."""
    start, count = time.perf_counter(), 0
    while count < FEWEST_STEPS or time.perf_counter() - start < BURST_SECONDS:
        last = next(steps)
        count += 1
    float(last)
    return (time.perf_counter() - start) / count


def measure_all(contestants: Sequence[Contestant], machine: str) -> StepTimes:
    """Returns the times of all, those of the faster round."""
    seconds: dict[str, float] = {}
    for i in range(ROUNDS):
        for name, run in contestants[:: -1 if i % 2 else 1]:
            key, measured = step_key(run), fastest_step(run)
            seconds[key] = min(measured, seconds.get(key, measured))
            print(f"{measured * 1e3:9.3f} ms  {name}", flush=True)
    [reference] = [step_key(run) for name, run in contestants if name == REFERENCE]
    steps = {
        key: StepTime(name=name, seconds=seconds[key], ratio=seconds[key] / seconds[reference])
        for name, run in contestants
        for key in [step_key(run)]
    }
    return StepTimes(machine=machine, threads=torch.get_num_threads(), reference=REFERENCE, steps=steps)


def table_of(times: StepTimes) -> str:
    """Returns a Markdown table of the reference and of the networks that are not the article's."""
    published = {step_key(run) for name, run in article_contestants() if name != REFERENCE}
    shown = [step for key, step in times.steps.items() if key not in published]
    rows = [f"| {step.name} | {step.seconds * 1e3:.2f} | {step.ratio:.2f} |" for step in shown]
    heading = ["| network | a step (ms) | of the reference |", "|:---|---:|---:|"]
    return "\n".join([*heading, *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="experiment files")
    parser.add_argument("-o", "--output", type=Path, default=Path("times.json"), help="file to write: .json")
    parser.add_argument("--words", default="", help="of names, separated by commas: measures these alone")
    parser.add_argument("--show", type=Path, help="prints the table of a file; measures nothing")
    options = parser.parse_args()
    if options.show:
        print(table_of(read_step_times(options.show)))
        return
    words = [word for word in options.words.split(",") if word]
    every = article_contestants() + own_contestants(options.files)
    chosen = [
        contestant
        for contestant in every
        if not words or contestant.name == REFERENCE or any(word in contestant.name for word in words)
    ]
    start = time.perf_counter()
    times = measure_all(chosen, describe_machine(product_speed()).strip())
    content = json.dumps(times.model_dump(), indent=1, ensure_ascii=False) + "\n"
    write_atomically(options.output, content.encode())
    print(f"{options.output}: {len(times.steps)} networks in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
