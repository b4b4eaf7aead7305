"""A checkpoint that was doctored or damaged is refused, and leaves the loop as it was."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from mixcoder.data import ImageData
from mixcoder.errors import RunDirectoryError
from mixcoder.training.training_loop import TrainingLoop
from tests.training.test_training_loop import loop, weights

Tensors = dict[str, Tensor]
State = dict[str, Any]
STEPS = 20
WEIGHTS, MOMENT, RANDOM = "model.encoder.0.module.weight", "optimizer.0.0.exp_avg", "random.cpu"
COUNT = "optimizer.0.0.step"


@pytest.fixture
def checkpoint(tmp_path: Path, tiny_data: ImageData) -> Path:
    """One of a run of twenty steps, at its end."""
    run = loop(tiny_data, steps=STEPS)
    list(run.run())
    path = tmp_path / "latest.safetensors"
    run.save(path)
    return path


def contents(path: Path) -> tuple[Tensors, State]:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, json.loads(file.metadata()["state"])


def everything(run: TrainingLoop) -> list[Tensor]:
    """All that a run goes on with, or that it leaves to others in its process."""
    states = [
        value for optimizer in run.optimizers for it in optimizer.state.values() for value in it.values()
    ]
    rates = torch.tensor([group["lr"] for optimizer in run.optimizers for group in optimizer.param_groups])
    return [weights(run.model), *states, rates, torch.get_rng_state()]


def change(path: Path, doctor: Callable[[Tensors, State], object]) -> None:
    tensors, state = contents(path)
    doctor(tensors, state)
    save_file(tensors, path, {"state": json.dumps(state)})


def test_what_is_doctored_below_is_there(checkpoint: Path) -> None:
    tensors, state = contents(checkpoint)
    assert {WEIGHTS, MOMENT, RANDOM} <= set(tensors)
    assert state["step"] == STEPS
    change(checkpoint, lambda tensors, state: None)


DOCTORED: dict[str, tuple[Callable[[Tensors, State], object], str]] = {
    "a weight of another shape": (
        lambda tensors, _: tensors.update({WEIGHTS: torch.zeros(2, 2)}),
        r"is not a checkpoint of this run \(model.encoder.0.module.weight is \(2, 2\), not \(",
    ),
    "a weight of another type": (
        lambda tensors, _: tensors.update({WEIGHTS: tensors[WEIGHTS].double()}),
        r"this run \(model.encoder.0.module.weight is of type F64, not F32\)",
    ),
    "no moments": (
        lambda tensors, _: tensors.pop(MOMENT),
        r"this run \(optimizer.0.0.exp_avg is missing\)",
    ),
    "moments of another shape": (
        lambda tensors, _: tensors.update({MOMENT: torch.zeros(3)}),
        r"this run \(optimizer.0.0.exp_avg is \(3,\), not \(",
    ),
    "an optimizer too many": (
        lambda tensors, _: tensors.update({"optimizer.7.0.exp_avg": torch.zeros(3)}),
        r"this run \(it has no optimizer.7.0.exp_avg\)",
    ),
    "a name for the terminal": (
        lambda tensors, _: tensors.update({"\x1b[2J": torch.zeros(1)}),
        r"this run \(it has no \\x1b\[2J\)",
    ),
    "no random state": (
        lambda tensors, _: tensors.pop(RANDOM),
        r"this run \(random.cpu is missing\)",
    ),
    "random numbers that are no state": (
        lambda tensors, _: tensors[RANDOM].fill_(255),
        r"is not a readable checkpoint \(its random state is none\)",
    ),
    "a count of other steps": (
        lambda tensors, _: tensors[COUNT].fill_(7),
        r"is not a checkpoint of this run \(optimizer.0.0.step is 7, not 20\)",
    ),
    "a count before the beginning": (lambda tensors, _: tensors[COUNT].fill_(-1), r"step is -1, not 20"),
    "a count that is no number": (lambda tensors, _: tensors[COUNT].fill_(torch.nan), r"step is nan, not 20"),
    "a count without an end": (lambda tensors, _: tensors[COUNT].fill_(torch.inf), r"step is inf, not 20"),
    "a step that the optimizer has not": (lambda _, state: state.update(step=7), r"step is 20, not 7\)"),
    "a step before any that the optimizer has": (
        lambda _, state: state.update(step=0),
        r"this run \(it has no optimizer.0.0.exp_avg\)",
    ),
    "other images": (
        lambda _, state: state.update(data_hash="0123456789abcdef" * 4),
        r"was saved by a run on other images \(0123456789ab…, now they are [0-9a-f]{12}…\); "
        r"bring those back, or delete .* to begin anew$",
    ),
    "images with a name for the terminal": (
        lambda _, state: state.update(data_hash="\x1b[2J" * 99),
        r"was saved by a run on other images \(\\x1b\[2J",
    ),
    "a step beyond the end": (
        lambda _, state: state.update(step=STEPS + 1),
        r"is not a checkpoint of this run \(step 21 of 20\)",
    ),
    "a step of hundreds of digits": (
        lambda _, state: state.update(step=10**400),
        r"is not a readable checkpoint|is not a checkpoint of this run",
    ),
    "a step before the beginning": (lambda _, state: state.update(step=-1), r"\(state.step: "),
    "a step in words": (lambda _, state: state.update(step="20"), r"\(state.step: "),
    "no step": (lambda _, state: state.pop("step"), r"\(state.step: is missing\)"),
    "no clock": (lambda _, state: state.pop("clock"), r"\(state.clock: is missing\)"),
    "a clock that runs backwards": (
        lambda _, state: state["clock"].update(seconds=-1.0),
        r"\(state.clock.seconds: ",
    ),
    "a clock that is no number": (
        lambda _, state: state["clock"].update(seconds=float("nan")),
        r"\(state.*",
    ),
    "an unknown key": (lambda _, state: state.update(extra=1), r"\(state.extra: unknown key 'extra'"),
    "an empty state": (lambda _, state: state.clear(), r"\(state.step: is missing\)"),
}


@pytest.mark.parametrize("name", DOCTORED)
def test_a_doctored_one_is_refused_and_changes_nothing(
    checkpoint: Path, tiny_data: ImageData, name: str
) -> None:
    doctor, sentence = DOCTORED[name]
    change(checkpoint, doctor)
    run = loop(tiny_data, steps=STEPS)
    next(run.run())
    step, before = run.step, [each.clone() for each in everything(run)]
    with pytest.raises(RunDirectoryError, match=sentence) as caught:
        run.restore(checkpoint)
    message = str(caught.value)
    assert str(checkpoint) in message
    assert message.isprintable()
    assert len(message) < 600
    assert run.step == step > 0
    assert all(map(torch.equal, everything(run), before))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (struct.pack("<Q", 1 << 40) + b"{}", "it states a header of 1,099,511,627,776 bytes"),
        (struct.pack("<Q", 2) + b"{}", "it does not state its step"),
        (b"", ""),
    ],
)
def test_a_damaged_one_is_refused(
    checkpoint: Path, tiny_data: ImageData, content: bytes, sentence: str
) -> None:
    checkpoint.write_bytes(content)
    with pytest.raises(RunDirectoryError, match=f"is not a readable checkpoint .*{sentence}"):
        loop(tiny_data, steps=STEPS).restore(checkpoint)


def test_a_checkpoint_from_before_images_were_told_apart_goes_on(
    checkpoint: Path, tiny_data: ImageData
) -> None:
    change(checkpoint, lambda _, state: state.pop("data_hash"))
    run = loop(tiny_data, steps=STEPS)
    run.restore(checkpoint)
    assert run.step == STEPS


def test_one_of_other_images_is_refused(checkpoint: Path, tiny_data: ImageData) -> None:
    others = replace(tiny_data, train=tiny_data.validation)
    with pytest.raises(RunDirectoryError, match="was saved by a run on other images"):
        loop(others, steps=STEPS).restore(checkpoint)


def test_a_run_goes_on_without_the_gpu_it_began_on(checkpoint: Path, tiny_data: ImageData) -> None:
    change(checkpoint, lambda tensors, _: tensors.update({"random.cuda": torch.zeros(16, dtype=torch.uint8)}))
    run = loop(tiny_data, steps=STEPS)
    run.restore(checkpoint)
    assert run.step == STEPS


def test_one_of_a_muon_that_left_convolutions_to_adamw_is_told_as_an_older_one(
    checkpoint: Path, tiny_data: ImageData
) -> None:
    run = loop(tiny_data, steps=STEPS, optimizer="muon")
    list(run.run())
    run.save(checkpoint)
    tensors, _ = contents(checkpoint)
    convolution = next(name for name, value in tensors.items() if name.endswith("buffer") and value.ndim == 3)
    change(checkpoint, lambda tensors, state: tensors.pop(convolution))
    message = rf"{convolution} is missing\); if an older Mixcoder saved it, delete .* to begin anew"
    with pytest.raises(RunDirectoryError, match=message):
        loop(tiny_data, steps=STEPS, optimizer="muon").restore(checkpoint)
