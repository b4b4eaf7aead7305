"""Makes run directories with an older Mixcoder, for tests that newer ones go on with them.

    git worktree add /tmp/older 9a53c56
    OMP_NUM_THREADS=1 PYTHONPATH=/tmp/older/src python tests/old_runs.py tests/runs_made_before

9a53c56 is the last commit before the modules were moved into rooms; this script knows the names they had.
Three run directories were interrupted in the middle, one is finished. Beside each lies what the older
Mixcoder brought it to, and beside all what this processor computes from fixed numbers (`probe`): others may
round otherwise.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import torch

FOLDER = Path(__file__).with_name("runs_made_before")
INTERRUPTED_AT = 20
"""The step; all runs have 40."""
_MIXER = "{type: mixer, patch_size: 4, hidden_channels: [6], latent_dim: 3, mixer_at: [1], mixer: %s}"
_CNN = "{type: cnn, channels: [4, 4], kernel_size: 3, latent_dim: 3}"
_TRAINING = "steps: 40, batch_size: 32, validations: 8, warmup_steps: 4, learning_rate: 0.01, compile: off"
EXPERIMENTS = {
    "mixer-adamw": (_MIXER % "cnnf", ""),
    "mixer-muon": (_MIXER % "mlp", ", optimizer: muon"),
    "cnn-sgd": (_CNN, ", optimizer: sgd"),
    "finished": (_MIXER % "cnn", ""),
}
"""Model, and what is added to the training, by name."""
OUTCOME = ("metrics.jsonl", "model.safetensors", "model.json")
"""What a run is compared by when it has ended."""


def experiment(name: str) -> str:
    """Returns the text of an experiment file."""
    model, added = EXPERIMENTS[name]
    return f"name: {name}\ndata: {{source: digits}}\nmodel: {model}\ntraining: {{{_TRAINING}{added}}}\n"


def probe() -> str:
    """Returns a digest of steps with the layers and optimizers of these runs, in plain PyTorch."""
    generator = torch.Generator().manual_seed(5)
    images = torch.rand(32, 1, 8, 8, generator=generator)
    weights = [
        torch.randn(shape, generator=generator).div(3).requires_grad_()
        for shape in ((4, 1, 3, 3), (4, 4, 3, 3), (3, 64), (64, 3), (6, 16), (4, 4, 5), (6, 6, 5), (24, 24))
    ]
    digest = hashlib.sha256()
    optimizers = [torch.optim.AdamW(weights, 0.01), torch.optim.SGD(weights, 0.01, momentum=0.9)]
    optimizers.append(torch.optim.Muon(weights[2:5], 0.01))
    for optimizer in optimizers:
        loss = _probe_loss(images, weights)
        digest.update(loss.detach().numpy().tobytes())
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        for weight in weights:
            digest.update(weight.detach().numpy().tobytes())
    return digest.hexdigest()


def _probe_loss(images: torch.Tensor, weights: list[torch.Tensor]) -> torch.Tensor:
    first, second, encode, decode, patch, over_patches, over_channels, mix = weights
    functional = torch.nn.functional
    maps = functional.gelu(functional.conv2d(functional.gelu(functional.conv2d(images, first)), second))
    latent = maps.flatten(1) @ encode.T  # (32, 3)
    rebuilt = functional.conv_transpose2d(functional.gelu(latent @ decode.T).view(32, 4, 4, 4), second)
    rebuilt = functional.conv_transpose2d(functional.gelu(rebuilt), first)
    rows = functional.gelu(images.view(32, 4, 16) @ patch.T)  # (32, 4, 6)
    rows = rows + functional.gelu(functional.conv1d(rows, over_patches, padding=2))
    rows = rows + functional.conv1d(rows.transpose(1, 2), over_channels, padding=2).transpose(1, 2)
    rows = rows + functional.gelu(rows.flatten(1) @ mix.T).view(32, 4, 6)
    return (rebuilt - images).square().mean() + rows.square().mean()


def _train(path: Path, runs: Path, stop_at: int | None) -> Path:
    """Trains the run of a file with the older Mixcoder, up to a step; returns its directory."""
    older: Any = importlib.import_module("mixcoder.experiments.training_run")
    read_experiment: Any = importlib.import_module("mixcoder.experiments.spec").read_experiment
    [run] = read_experiment(path).runs

    def interrupt(loop: Any, progress: Any) -> None:
        if progress.step == stop_at:
            os.kill(os.getpid(), signal.SIGINT)

    try:
        older.train_run(run, runs, interrupt, "cpu")
    except importlib.import_module("mixcoder.errors").RunInterruptedError:
        assert stop_at is not None
    [directory] = Path(runs / run.experiment).iterdir()
    (directory / ".lock").unlink(missing_ok=True)
    return directory


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    shutil.rmtree(folder, ignore_errors=True)
    for name in EXPERIMENTS:
        place = folder / name
        place.mkdir(parents=True)
        path = place / f"{name}.yml"
        path.write_text(experiment(name), encoding="utf-8")
        directory = _train(path, place / "interrupted", None if name == "finished" else INTERRUPTED_AT)
        assert (directory / "result.json").exists() == (name == "finished")
        shutil.copytree(place / "interrupted", place / "again")
        ended = _train(path, place / "again", None)
        for file in OUTCOME:
            (place / "ended").mkdir(exist_ok=True)
            shutil.copy(ended / file, place / "ended" / file)
        shutil.rmtree(place / "again")
    machine = {
        "probe": probe(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
    }
    (folder / "machine.json").write_text(json.dumps(machine, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
