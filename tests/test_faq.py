"""Every error on the page happens for real, and reads as the page says."""

from __future__ import annotations

import os
import re
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import stamina
import torch
from filelock import FileLock
from PIL import Image

import mixcoder
from mixcoder.experiments.file.spec import read_experiment
from mixcoder.experiments.runs import run_directory
from mixcoder.experiments.runs.run_directory import RunDirectory
from tests.conftest import Cli, slow
from tests.documents import assert_shown, blocks_of, faq_sentences, read_document, shortened

SENTENCES = faq_sentences()

CHANGES = {
    "A key is misspelt": ("learning_rate", "lerning_rate"),
    "A name is unknown": ("mixer: cnnf", "mixer: cnf"),
    "A kernel is even": ("kernel_size: 3", "kernel_size: 4"),
    "Patches do not fit the image": ("patch_size: 4", "patch_size: 3"),
    "The number of channels is not a square": ("mixer: cnnf", "mixer: cnn2d"),
    "Two durations": ("inputs: ", "epochs: 3\n  inputs: "),
    "A search holds no images out": (
        "training:",
        "search: {trials: 9, inputs: [640], values: {mixer: [cnn, cnnf]}}\ntraining:",
    ),
    "A model is too large": ("[32, 32, 16]", "[10_000, 100_000, 100_000]"),
}
"""In `mine.yml`, before it is run."""

COMMANDS = {
    "A script is wrong": ["run", "mine.yml", "model={type: script, script: ch=8|up2|ch=1}"],
    "Too few images": ["data", "fetch", "folder", "path=few"],
    "Images are left out": ["data", "fetch", "folder", "path=photos"],
    "The loss became nan": ["run", "diverging.yml"],
    "A device cannot be used": ["run", "mine.yml", "--device", "cuda:7"],
    "A run is not finished": ["reconstruct", "runs/mine", "-o", "grid.png"],
    "Nothing has been trained": ["plot", "mine.yml", "-o", "curves.svg"],
}
"""For somebody who has photos and two experiments, and has trained nothing."""


def with_a_change(cli: Cli, heading: str) -> str:
    old, new = CHANGES[heading]
    text = Path("mine.yml").read_text()
    assert old in text
    Path("mine.yml").write_text(text.replace(old, new))
    return cli("run", "mine.yml")[2]


def by_a_command(cli: Cli, heading: str) -> str:
    return cli(*COMMANDS[heading])[2]


def without_network(cli: Cli, heading: str) -> str:
    with stamina.set_testing(True):
        return cli("run", "mine.yml", "data.source=mnist")[2]


def while_another_process_trains(cli: Cli, heading: str) -> str:
    [run] = read_experiment(Path("mine.yml")).runs
    path = RunDirectory.of(run, Path("runs")).path
    path.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch, FileLock(path / ".lock"):
        patch.setattr(run_directory, "LOCK_SECONDS", 0.1)
        return cli("run", "mine.yml")[2]


def with_a_layer_that_takes_all_memory(cli: Cli, heading: str) -> str:
    Path("huge.py").write_text(
        "import mixcoder, torch\n"
        "@mixcoder.register_mixer('huge')\n"
        "class Huge(mixcoder.MixingLayer):\n"
        "    def __init__(self, grid, channels, kernel_size):\n"
        "        super().__init__()\n"
        "    def mix(self, x):\n"
        "        return x if x.is_meta else x + torch.zeros(2**55)[:1]\n"  # not in the rehearsal
    )
    return cli("--plugin", "huge.py", "run", "mine.yml", "model.mixer=huge")[2]


def with_other_pictures(cli: Cli, heading: str) -> str:
    arguments = ["data={source: folder, path: photos, crop_size: 8, channels: 1}", "training.inputs=64"]
    assert cli("run", "mine.yml", *arguments)[0] == 0
    Path("photos/1.png").unlink()
    return cli("run", "mine.yml", *arguments)[2].splitlines()[-1]


def with_ctrl_c(cli: Cli, heading: str) -> str:
    """As soon as there is a line of metrics."""
    ended: list[bool] = []

    def interrupt() -> None:
        while not ended and not any(path.stat().st_size for path in Path("runs").rglob("metrics.jsonl")):
            pass
        if not ended:
            os.kill(os.getpid(), signal.SIGINT)

    hand = Thread(target=interrupt)
    hand.start()
    try:
        return cli("run", "mine.yml", "training.inputs=2_000_000")[2]
    finally:
        ended.append(True)
        hand.join()


def after_two_runs(cli: Cli, heading: str) -> str:
    cli("run", "mine.yml")
    cli("run", "mine.yml", "model.mixer=mlp")
    commands = {
        "More than one run": ["reconstruct", "runs/mine", "-o", "grid.png"],
        "A column does not exist": ["table", "runs/mine", "--where", "mixr=cnn"],
        "The ending of an output file is unknown": ["plot", "runs/mine", "-o", "curves.jpg"],
        "A file cannot be written": ["plot", "runs/mine", "-o", "notes/curves.svg"],
    }
    Path("notes").write_text("Not a folder.")
    return cli(*commands[heading])[2]


def in_python(cli: Cli, heading: str) -> str:
    model = mixcoder.create_model("cnn", image_shape=(1, 8, 8), channels=[2], kernel_size=3, latent_dim=2)
    attempts: dict[str, Callable[[], object]] = {
        "Images of another shape": lambda: model.encode(torch.rand(1, 8, 8)),
        "Images of integers": lambda: model.encode(torch.zeros(5, 1, 8, 8, dtype=torch.uint8)),
        "Training images that are not uint8": lambda: mixcoder.ImageSplit(torch.rand(5, 1, 8, 8)),
    }
    with pytest.raises(ValueError) as caught:
        attempts[heading]()
    return last_line(caught.value)


def with_a_layer_of_elsewhere(cli: Cli, heading: str) -> str:
    cli("run", "mine.yml")
    [description] = Path("runs").rglob("model.json")
    description.write_text(description.read_text().replace("cnnf", "shift"))
    with pytest.raises(mixcoder.MixcoderError) as caught:
        mixcoder.load("runs/mine")
    return last_line(caught.value)


def last_line(error: Exception) -> str:
    """What Python prints below the traceback."""
    return "".join(traceback.format_exception_only(error))


MISHAPS: dict[str, Callable[[Cli, str], str]] = {
    **dict.fromkeys(CHANGES, with_a_change),
    **dict.fromkeys(COMMANDS, by_a_command),
    "The data is missing, and there is no network": without_network,
    "Another process is training": while_another_process_trains,
    "The images have changed": with_other_pictures,
    "Out of memory": with_a_layer_that_takes_all_memory,
    "A run was interrupted": with_ctrl_c,
    "More than one run": after_two_runs,
    "A column does not exist": after_two_runs,
    "The ending of an output file is unknown": after_two_runs,
    "A file cannot be written": after_two_runs,
    "Images of another shape": in_python,
    "Images of integers": in_python,
    "Training images that are not uint8": in_python,
    "A model with an unknown layer": with_a_layer_of_elsewhere,
}
"""How each error of the page comes about; gives what is printed."""


def test_every_error_of_the_page_is_made_here() -> None:
    made_elsewhere = {
        "There is no compiler",  # in tests/backends/test_backend.py
        "A function has no rule",  # there too
        "Compiled code crashes on the GPU",  # in tests/backends/inductor/test_package_trial.py
        "Compiled code is not kept",  # in tests/test_machines.py
        "There is no home folder",  # there too
    }
    errors = re.findall(r"^### (.*)$", read_document("docs/faq.md"), flags=re.M)
    assert set(errors) == set(SENTENCES) == set(MISHAPS) | made_elsewhere
    assert len(SENTENCES) >= 15


@pytest.mark.parametrize(
    "heading",
    [pytest.param(name, marks=slow) if name == "A model is too large" else name for name in MISHAPS],
)
@pytest.mark.usefixtures("empty_cache")
def test_it_reads_as_on_the_page(heading: str, cli: Cli) -> None:
    [experiment] = [block.content for block in blocks_of(read_document("README.md")) if block.file]
    Path("mine.yml").write_text(shortened(experiment))
    for folder, count in (("photos", 40), ("few", 1)):
        Path(folder).mkdir()
        for i in range(1, count + 1):
            Image.fromarray(np.full((40, 50, 3), i, dtype=np.uint8)).save(f"{folder}/{i}.png")
    steps = "{optimizer: sgd, learning_rate: 1.0e+9, steps: 300}"
    Path("diverging.yml").write_text(f"name: mine\nextends: mine.yml\ntraining: {steps}\n")
    Path("photos/letter.jpg").write_text("Dear Sir or Madam")
    assert_shown(SENTENCES[heading], MISHAPS[heading](cli, heading))
