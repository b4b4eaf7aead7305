"""Small runs of every kind, whose processes are killed: their experiment files, their data, their outcome."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file

from mixcoder.data import load_data
from mixcoder.errors import RunDirectoryError
from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.training.checkpoint import read_state

PLUGIN = Path(__file__).with_name("plugin.py")
STEPS = 40
TRAINING = "steps: 40, batch_size: 32, validations: 8, warmup_steps: 4"
DIGITS = "{source: digits}"
PHOTOS = "{source: folder, path: photos, crop_size: 16, longest_edge: 40, horizontal_flips: true}"
MIXER = "type: mixer, patch_size: 4, hidden_channels: [9], latent_dim: 8, mixer_at: [1]"
AVERAGED = "ema: 0.9, clip_norm: 0.05"


@dataclass(frozen=True)
class Victim:
    """A run to be killed.

    Attributes:
        data: as an experiment file has it.
        model: likewise.
        training: what is added to `TRAINING`.
    """

    data: str
    model: str
    training: str

    def experiment(self, name: str) -> str:
        """The experiment file."""
        return (
            f"name: {name}\ndata: {self.data}\nmodel: {{{self.model}}}\n"
            f"training: {{{TRAINING}, {self.training}}}\n"
        )


VICTIMS = {
    "mixer": Victim(DIGITS, f"{MIXER}, mixer: mlp", "compile: off"),
    "cnn, sgd": Victim(
        DIGITS, "type: cnn, channels: [8, 8], kernel_size: 3, latent_dim: 8", "optimizer: sgd, compile: off"
    ),
    "script, muon": Victim(
        DIGITS,
        'type: script, script: "ch=8|down2|ch*1|ch=2", kernel_size: 3',
        "optimizer: muon, compile: off",
    ),
    "mixer, muon": Victim(DIGITS, f"{MIXER}, mixer: cnn2d", "optimizer: muon, compile: off"),
    "native": Victim(DIGITS, f"{MIXER}, mixer: cnnf", "compile: on"),
    "native, sgd": Victim(DIGITS, f"{MIXER}, mixer: mlp", "optimizer: sgd, schedule: constant, compile: on"),
    "native, averaged": Victim(
        DIGITS, f"{MIXER}, mixer: cnn, norm: rms", f"{AVERAGED}, schedule: wsd, compile: on"
    ),
    "mixer, averaged": Victim(DIGITS, f"{MIXER}, mixer: mlp", f"{AVERAGED}, schedule: linear, compile: off"),
    "crops": Victim(PHOTOS, "type: cnn, channels: [4, 4], kernel_size: 3, latent_dim: 8", "compile: off"),
    "plugin's mixing": Victim(DIGITS, f"{MIXER}, mixer: average", "optimizer: sgd, compile: off"),
    "plugin's model": Victim(DIGITS, "type: dropping, latent_dim: 8", "compile: off"),
}
"""`native` is trained by our own operations; to compile the others too would take minutes."""


def write_victims(folder: Path) -> None:
    """Writes all experiment files, and the pictures of those that train on crops."""
    for name, victim in VICTIMS.items():
        (folder / f"{file_name(name)}.yml").write_text(victim.experiment(file_name(name)))
    make_photos(folder / "photos")


def file_name(name: str) -> str:
    """A victim's name as a file may be called."""
    return name.replace(", ", "-").replace("'s ", "-")


def make_photos(folder: Path) -> None:
    """Fills a folder with real photos where this machine has them, else with digits; and a broken one."""
    folder.mkdir()
    originals = sorted((Path(os.environ.get("MIXCODER_DATA", "nowhere")) / "photos" / "160").glob("*.jpg"))
    for original in originals[:24]:
        shutil.copy(original, folder)
    if not originals:
        for number, image in enumerate(load_data("digits").validation.images[:24, 0]):
            Image.fromarray(np.kron(image.numpy(), np.ones((4, 6), np.uint8))).save(folder / f"{number}.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more than this")


def stage(directory: Path, cache: Path) -> str:
    """How far a killed process was, as far as its files tell."""
    names = {path.name for path in directory.rglob("*")} if directory.exists() else set()
    if any(name.endswith(".part") for name in names):
        return "while a file was written"
    if "result.json" in names:
        return "after the result"
    if "model.safetensors" in names:
        return "while the result was made"
    if "latest.safetensors" in names:
        return "between checkpoints"
    if any(cache.glob("packed/*.part")):
        return "while a folder was packed"
    return "before the first checkpoint" if "config.yml" in names else "before the run directory"


def damage(directory: RunDirectory) -> str:
    """What is wrong with the checkpoint, which must be whole at any moment; empty where nothing is."""
    try:
        if directory.checkpoint.exists():
            read_state(directory.checkpoint, STEPS)
            load_file(directory.checkpoint)
        if directory.best.exists():
            load_file(directory.best)
    except (RunDirectoryError, SafetensorError) as error:
        return str(error)
    return ""


def outcome(directory: RunDirectory, cache: Path) -> dict[str, object]:
    """All of a finished run that time does not change: its files byte for byte, its measures."""
    result = directory.read_result() or {}
    files = {path.relative_to(directory.path).as_posix(): path for path in _files(directory.path)}
    packed = {path.name: path.read_bytes() for path in _files(cache / "packed") if path.suffix != ".lock"}
    return {
        "files": sorted(files),
        "model": files["model.safetensors"].read_bytes(),
        "best": files["checkpoint/best.safetensors"].read_bytes(),
        "description": files["model.json"].read_bytes(),
        "metrics": files["metrics.jsonl"].read_bytes(),
        "config": files["config.yml"].read_bytes(),
        "result": {key: value for key, value in result.items() if key in _MEASURES},
        "packed": packed,
    }


_MEASURES = (
    "validation_loss", "best_validation_loss", "psnr", "ssim", "inputs", "steps", "params", "data_hash",
    "training_images", "validation_images", "images_left_out",
)  # fmt: skip


def _files(folder: Path) -> Iterator[Path]:
    with suppress(FileNotFoundError):
        yield from (path for path in folder.rglob("*") if path.is_file())
