"""Trains under limits of memory: what cannot fit is refused before it begins, what runs out says so.

    python -m tests.faults.memory [--cases NAME ...]

For each case: the memory that training is estimated to take beside its data, the most that a process held
more than before, and what came of it when a process may take so many times the estimate more (`ulimit -v`):
"refused", "out of memory" on the way, or "done". Where the refusal names a batch size, it is tried.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import torch

from mixcoder.cli import train
from mixcoder.cli.app import main as mixcoder
from mixcoder.data import load_data
from mixcoder.experiments.file.spec import Run, read_experiment
from mixcoder.experiments.runs.training_run import train_run
from mixcoder.training.memory_estimate import training_bytes

LOADED = (train,)
"""What a run imports on its way, here before the limits are set."""
WIDE = "{type: mixer, patch_size: 4, hidden_channels: [3000, 3000], latent_dim: 8}"
MIXER = "{type: mixer, patch_size: 2, hidden_channels: [64, 64], latent_dim: 8, mixer_at: [1], mixer: cnnf}"
CNN = "{type: cnn, channels: [32, 32], kernel_size: 3, latent_dim: 8}"
SCRIPT = '{type: script, script: "ch=32|down2|ch*1|ch=4"}'
BROAD = "{type: mixer, patch_size: 4, hidden_channels: [30000, 10], latent_dim: 8}"
CASES = {
    "many parameters, AdamW": (WIDE, "{steps: 3}"),
    "many parameters, SGD": (WIDE, "{steps: 3, optimizer: sgd}"),
    "many parameters, Muon": (WIDE, "{steps: 3, optimizer: muon}"),
    "mixer, large batch": (MIXER, "{steps: 3, batch_size: 4000}"),
    "CNN, large batch": (CNN, "{steps: 3, batch_size: 8000, precision: float32}"),
    "script, large batch": (SCRIPT, "{steps: 3, batch_size: 4000, precision: float32}"),
    "script, large batch, bfloat16": (SCRIPT, "{steps: 3, batch_size: 8000, precision: bfloat16}"),
    "broad, batch of one": (BROAD, "{steps: 3, batch_size: 1}"),
}
ROOMS = (0.8, 1.1, 1.5, 2.5)
"""Times the estimate."""


def examine(folder: Path, name: str) -> dict[str, Any]:
    """Estimate and peak in bytes, the outcome in each of the rooms, and that of the batch size advised."""
    model, training = CASES[name]
    file = folder / f"{len(list(folder.iterdir()))}.yml"
    file.write_text(f"name: mine\ndata: {{source: digits}}\nmodel: {model}\ntraining: {training}\n")
    [run] = read_experiment(file).runs
    estimate = training_bytes(run.create_model, run.recipe, _precision(run))
    outcomes, advised = {}, ""
    for room in ROOMS:
        outcomes[room], advice = _outcome(file, int(room * estimate))
        if advice:
            advised, _ = _outcome(file, int(room * estimate), f"training.batch_size={advice}")
    return {
        "case": name,
        "estimate": estimate,
        "peak": _peak(run, folder),
        "outcomes": outcomes,
        "advised": advised,
    }


def _precision(run: Run) -> torch.dtype:
    return torch.bfloat16 if run.recipe.precision == "bfloat16" else torch.float32


def _outcome(file: Path, room: int, *overrides: str) -> tuple[str, str]:
    """What comes of a run that may take `room` bytes more, and the batch size that it is advised."""
    log = file.with_suffix(".log")
    child = os.fork()
    if not child:
        _silence(log)
        torch.set_num_threads(1)
        limit = _own_bytes("VmSize") + room
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        status: Any = 70
        try:
            mixcoder(["run", str(file), "--runs", str(file.with_suffix(f".{room}")), *overrides])
        except SystemExit as left:
            status = left.code
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status or 0)
    status, said = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), log.read_text()
    error = next((line for line in said.splitlines() if line.startswith("error:")), "")
    if (status, error) == (0, ""):
        return "done", ""
    if status == 2 and error.startswith("error: to train a ") and "within ulimit -v; " in error:
        advice = re.search(r"try a training.batch_size of ([\d,]+)$", error)
        return "refused", advice[1].replace(",", "_") if advice else ""
    if status == 1 and error.startswith("error: out of memory while training a "):
        return "out of memory", ""
    return f"status {status}: {said.strip()}", ""


def _peak(run: Run, folder: Path) -> int:
    """The most bytes that a process held while it trained, more than before it."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        torch.set_num_threads(1)
        before = _own_bytes("VmRSS")
        train_run(run, folder / "peaks", lambda loop, progress: None)
        os.write(writer, str(_own_bytes("VmHWM") - before).encode())
        os._exit(0)
    os.waitpid(child, 0)
    return int(os.read(reader, 100))


def _silence(log: Path) -> None:
    with log.open("w") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())


def _own_bytes(kind: str) -> int:
    found = re.search(rf"{kind}:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES), metavar="NAME")
    options = parser.parse_args()
    load_data("digits")
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in options.cases:
            found = examine(Path(folder), name)
            estimate, peak = found["estimate"] / 1e6, found["peak"] / 1e6
            print(f"{name}: estimated {estimate:,.0f} MB, held {peak:,.0f} MB")
            for room, outcome in found["outcomes"].items():
                print(f"  with {room} times the estimate: {outcome}")
                wrong += outcome not in ("refused", "out of memory", "done")
            if found["advised"]:
                print(f"  with the batch size advised: {found['advised']}")
                wrong += found["advised"] != "done"
    raise SystemExit(wrong > 0)


if __name__ == "__main__":
    main()
