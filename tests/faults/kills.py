"""Kills training runs at random moments, lets them go on, and compares them with runs that were let alone.

    python -m tests.faults.kills [--kills 100] [--seed 0]

Each run is trained in a forked process, which saves a checkpoint whenever it looks up; SIGKILL comes at a
moment drawn evenly from the time that a whole run takes, so in start-up, steps, validation, checkpoints and
the last writes. A run goes on until it is done; its weights, metrics and result must be those of one
that nobody disturbed.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import signal
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # which torch imports for its optimizers: once here, not in every fork
from safetensors import SafetensorError
from safetensors.torch import load_file

from mixcoder.errors import RunDirectoryError
from mixcoder.experiments import training_run
from mixcoder.experiments.run_directory import RunDirectory
from mixcoder.experiments.spec import Run, read_experiment
from mixcoder.training.checkpoint import read_state

MODELS = {
    "mixer": "{type: mixer, patch_size: 4, hidden_channels: [9], latent_dim: 8, mixer_at: [1], mixer: mlp}",
    "cnn": "{type: cnn, channels: [8, 8], kernel_size: 3, latent_dim: 8}",
    "script": '{type: script, script: "ch=8|down2|ch*1|ch=2", kernel_size: 3}',
    "native": "{type: mixer, patch_size: 4, hidden_channels: [9], latent_dim: 8, mixer_at: [1], mixer: cnnf}",
}
TRAINING = "{steps: 100, batch_size: 32, validations: 10, warmup_steps: 10, compile: %s}"
"""`native` is trained by our own operations; to compile the others too would take minutes."""
MEASURES = ("validation_loss", "best_validation_loss", "psnr", "ssim", "inputs", "steps")
STEPS = 100
MOST_TRIES = 500


@dataclass
class Report:
    """What came of it.

    Attributes:
        kills: how many processes were killed, by where they were.
        runs: how many runs came to their end.
        lost: why a checkpoint could not be read, or a run did not go on.
        unequal: which runs ended otherwise than one that was let alone.
    """

    kills: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    lost: list[str] = field(default_factory=list)
    unequal: list[str] = field(default_factory=list)


def harass(folder: Path, models: list[str], kills: int, seed: int) -> Report:
    """Kills `kills` processes that train the models in turn; all that was killed comes to its end."""
    report, dice = Report(), random.Random(seed)
    runs = {name: _run(folder, name) for name in models}
    undisturbed, seconds = {}, {}
    for name, run in runs.items():
        start = time.perf_counter()
        assert _train(run, folder / "undisturbed") == 0, f"{name} cannot be trained"
        seconds[name] = time.perf_counter() - start
        undisturbed[name] = _outcome(RunDirectory.of(run, folder / "undisturbed"))
    while report.kills.total() < kills:
        name = models[report.runs % len(models)]
        runs_folder = folder / f"run {report.runs}"
        directory = RunDirectory.of(runs[name], runs_folder)
        for _ in range(MOST_TRIES):
            delay = dice.uniform(0, seconds[name]) if report.kills.total() < kills else None
            status = _train(runs[name], runs_folder, delay)
            if status == -signal.SIGKILL:
                report.kills[_where(directory)] += 1
                _read_checkpoint(directory, report)
            elif status:
                report.lost.append(f"{name}: ended with status {status}")
                break
            else:
                break
        report.runs += 1
        outcome = _outcome(directory)
        differing = [key for key in outcome if outcome[key] != undisturbed[name][key]]
        if differing:
            report.unequal.append(f"{name}, run {report.runs}: {', '.join(differing)}")
    return report


def _run(folder: Path, name: str) -> Run:
    path = folder / f"{name}.yml"
    training = TRAINING % ("on" if name == "native" else "off")
    path.write_text(f"name: {name}\ndata: {{source: digits}}\nmodel: {MODELS[name]}\ntraining: {training}\n")
    return read_experiment(path).runs[0]


def _train(run: Run, runs: Path, delay: float | None = None) -> int:
    """Trains in a process of its own, killed after `delay` seconds; its exit status, or minus its signal."""
    child = os.fork()
    if not child:
        status = 1
        try:
            torch.set_num_threads(1)  # threads do not outlive a fork, and runs this small need none
            training_run.CHECKPOINT_SECONDS, training_run.CHECKPOINT_SHARE = 0.0, math.inf
            training_run.train_run(run, runs, lambda trainer, progress: None)
            status = 0
        finally:
            os._exit(status)
    if delay is not None:
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _where(directory: RunDirectory) -> str:
    """Where a killed process was, as far as its files tell."""
    names = {path.name for path in directory.path.rglob("*")} if directory.path.exists() else set()
    if any(name.endswith(".part") for name in names):
        return "while a file was written"
    if "result.json" in names:
        return "after the result"
    if "model.safetensors" in names:
        return "while the result was made"
    if "latest.safetensors" in names:
        return "between checkpoints"
    return "before the first checkpoint" if "config.yml" in names else "before the run directory"


def _read_checkpoint(directory: RunDirectory, report: Report) -> None:
    """Both files of the checkpoint, where they are there, must be whole at any moment."""
    try:
        if directory.checkpoint.exists():
            read_state(directory.checkpoint, STEPS)
            load_file(directory.checkpoint)
        if directory.best.exists():
            load_file(directory.best)
    except (RunDirectoryError, SafetensorError) as error:
        report.lost.append(str(error))


def _outcome(directory: RunDirectory) -> dict[str, Any]:
    """All of a run that time does not change."""
    result = directory.read_result() or {}
    return {
        "weights": (directory.path / "model.safetensors").read_bytes(),
        "best": {name: it.numpy().tobytes() for name, it in load_file(directory.best).items()},
        "metrics": directory.read_metrics(),
        "result": {
            key: result.get(key) for key in ("validation_loss", "best_validation_loss", "psnr", "ssim")
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = harass(Path(folder), list(MODELS), options.kills, options.seed)
    print(f"{report.kills.total()} kills in {report.runs} runs of {len(MODELS)} models:")
    for place, count in report.kills.most_common():
        print(f"  {count:4} {place}")
    print(f"{len(report.lost)} lost, {len(report.unequal)} unequal")
    for line in [*report.lost, *report.unequal]:
        print(f"  {line}")
    raise SystemExit(bool(report.lost or report.unequal))


if __name__ == "__main__":
    main()
