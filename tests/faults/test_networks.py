"""Native steps of random networks do what eager ones do; and the harness sees it where they do not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
import torch
from torch import Tensor

from mixcoder.backends.eager import EAGER, eager_gradients
from mixcoder.backends.step import Gradients, StepSpec, UnsupportedError
from tests.conftest import needs_compiler, slow
from tests.faults import network_check, networks
from tests.faults.random_networks import Case, draw

ROOT = Path(__file__).parents[2]


@needs_compiler
def test_native_steps_of_some_networks(tmp_path: Path) -> None:
    """`make faults` compares a thousand."""
    outcomes = [networks.compare_one(number, 1, tmp_path) for number in range(12)]
    assert [outcome["differs"] for outcome in outcomes if outcome["differs"]] == []
    assert sum(not outcome["refused"] for outcome in outcomes) >= 9


@slow
@needs_compiler
def test_native_steps_of_more_networks(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.faults.networks", "--networks=200", "--seed=2"]
    ended = subprocess.run(
        [*command, f"--kept={tmp_path}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.startswith("200 networks: ")


def use(monkeypatch: pytest.MonkeyPatch, gradients: object) -> None:
    """Lets eager steps pass for native ones, with these gradients."""
    monkeypatch.setattr(network_check, "NativeStep", gradients)
    monkeypatch.setattr(network_check, "NATIVE", EAGER)


def test_eager_steps_in_single_precision_are_equal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The harness takes no rounding for a fault."""
    use(monkeypatch, eager_gradients)
    outcomes = [networks.compare_one(number, 3, tmp_path) for number in range(40)]
    assert outcomes == [{"refused": "", "differs": ""}] * len(outcomes)


def slightly_wrong(spec: StepSpec) -> Gradients:
    """Gradients of which one element is wrong by a hundredth of the largest."""
    right = eager_gradients(spec)

    def gradients_of(images: Tensor) -> tuple[Tensor, Tensor]:
        gradients, loss = right(images)
        gradients[gradients.abs().argmax()] *= 1.01
        return gradients, loss

    return gradients_of


def test_a_wrong_gradient_is_found_and_made_small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(monkeypatch, slightly_wrong)
    number = next(n for n in range(99) if _is_own(draw(Random(f"network 0 {n}"))))
    outcome = networks.compare_one(number, 0, tmp_path)
    path = tmp_path / f"network-0-{number}.json"
    assert outcome["differs"].startswith(f"{path}: gradient of ")
    case = json.loads(path.read_text())
    assert (case["arguments"]["encoder"], case["arguments"]["decoder"]) == ([], [])
    assert network_check.check_network(case).startswith("gradient of ")


def _is_own(case: Case) -> bool:
    return bool(case["kind"] == "own" and case["precision"] == "float32")


class WrongUpdate:
    """A backend whose steps go the wrong way by a little."""

    def build(self, spec: StepSpec) -> object:
        step = EAGER.build(spec)

        def wrong(images: Tensor) -> Tensor:
            loss = step(images)
            with torch.no_grad():
                spec.parameters.vector[0] += 0.05
            return loss

        return wrong


def test_a_wrong_update_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, eager_gradients)
    monkeypatch.setattr(network_check, "NATIVE", WrongUpdate())
    for optimizer in ("adamw", "sgd"):
        number = next(n for n in range(99) if _is_own(draw(Random(f"network 0 {n}"))))
        case = {**draw(Random(f"network 0 {number}")), "optimizer": optimizer, "is_frozen": False}
        assert f"after 5 steps of {optimizer}" in network_check.check_network(case)


def refuse(spec: StepSpec) -> Gradients:
    raise UnsupportedError("no rule for torch.erfinv")


def test_the_refused_are_counted_by_function(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(network_check, "missing_operation", str)
    use(monkeypatch, refuse)
    tally = networks.fuzz_networks(7, 0, tmp_path / "state.json")
    assert (tally.equal, tally.failures) == (0, [])
    assert tally.refused == {"no rule for torch.erfinv": 7}


def test_a_network_that_ends_its_process_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And the others are compared; what was reached is not compared again after an interruption."""
    fatal = draw(Random("network 5 3"))

    def check(case: Case) -> str:
        return os._exit(3) if case == fatal else ""

    monkeypatch.setattr(networks, "check_network", check)
    state = tmp_path / "state.json"
    state.write_text(json.dumps({"equal": 1, "refused": {}, "failures": [], "is_done": False}))
    tally = networks.fuzz_networks(6, 5, state)
    path = tmp_path / "network-5-3.json"
    assert (tally.equal, tally.failures) == (5, [f"{path}: its process ended with 3"])
    assert json.loads(path.read_text()) == fatal
