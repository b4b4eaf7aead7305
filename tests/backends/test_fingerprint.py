"""Fingerprints differ where computations do; models of other code have none."""

from __future__ import annotations

import ast
import copy
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

import mixcoder
from mixcoder.backends.fingerprint import code_files, code_version, fingerprint, python_state
from mixcoder.models import Autoencoder, create_model
from tests import zoo


def mixer(**arguments: Any) -> Autoencoder:
    given = {"patch_size": 2, "hidden_channels": [9], "latent_dim": 4, "mixer_at": [1], **arguments}
    return create_model("mixer", image_shape=(1, 4, 6), **given)


def test_every_kind_of_model_has_one_of_its_own() -> None:
    fingerprints = [fingerprint(zoo.build(kind)) for kind in zoo.KINDS]
    assert None not in fingerprints
    assert len({*fingerprints}) == len(zoo.KINDS)
    assert fingerprints == [fingerprint(zoo.build(kind)) for kind in zoo.KINDS]


def test_each_argument_shows() -> None:
    arguments: list[dict[str, Any]] = [
        {},
        {"activation": "relu"},
        {"norm": "layer"},
        {"mixer": "cnnf", "kernel_size": 1},
        {"mixer": "cnnf", "kernel_size": 3},
        {"mixer_at": []},
        {"hidden_channels": [8]},
        {"hidden_channels": [9, 9]},
        {"patch_size": 1},
    ]
    assert len({fingerprint(mixer(**it)) for it in arguments}) == len(arguments)


def test_parameters_shared_frozen_or_of_another_type_show() -> None:
    model = mixer(hidden_channels=[9, 9])
    tied, frozen, double, resting = (copy.deepcopy(model) for _ in range(4))
    layers = [it for it in tied.modules() if isinstance(it, nn.Linear) and it.weight.shape == (9, 9)]
    assert len(layers) >= 2
    layers[1].weight = layers[0].weight
    frozen.requires_grad_(False)
    double.double()
    resting.eval()
    assert len({fingerprint(it) for it in (model, tied, frozen, double, resting)}) == 5


class Foreign(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return values


def test_none_is_given_of_what_cannot_be_told() -> None:
    foreign, hooked, tensor, buffer, function = (mixer() for _ in range(5))
    foreign.add_module("foreign", Foreign())
    hooked.register_forward_hook(lambda module, inputs, output: output * 2)
    tensor.weights = torch.ones(3)
    buffer.register_buffer("mask", torch.ones(3))
    function.act = torch.sin  # type: ignore[assignment]
    assert [fingerprint(it) for it in (foreign, hooked, tensor, buffer, function)] == [None] * 5


def test_changes_of_what_a_model_keeps_show() -> None:
    held = {"list": [torch.zeros(2)], "count": itertools.count(), "generator": torch.Generator()}
    model = mixer()
    model.held, model.object = held, SimpleNamespace(calls=0)  # type: ignore[assignment]
    model.function = lambda: held  # type: ignore[assignment]
    states = [python_state(model)]
    for change in (
        lambda: held["list"][0].add_(1),  # type: ignore[index]
        lambda: held["list"].append(1),  # type: ignore[attr-defined]
        lambda: next(held["count"]),  # type: ignore[call-overload]
        lambda: torch.rand(1, generator=held["generator"]),  # type: ignore[call-overload]
        lambda: vars(model.object).update(calls=1),
    ):
        assert states[-1] == python_state(model)
        change()
        states.append(python_state(model))
        assert states[-1] != states[-2]


def test_the_version_of_the_code_is_a_digest() -> None:
    assert len(code_version()) == 64


def test_the_version_is_of_all_code_that_a_step_follows_from_and_of_no_other() -> None:
    """An edit of a report leaves the build cache as it is."""
    root = Path(mixcoder.__file__).parent
    hashed = {path.relative_to(root).as_posix() for path in code_files(root)}
    assert {
        name for name in hashed if name.startswith(("report/", "cli/", "experiments/", "training/"))
    } == set()
    computes_nothing = re.compile(r"(registry|text|io|pixels)/|(__init__|errors)\.py")
    for name in sorted(name for name in hashed if name.endswith(".py")):
        for imported in imported_modules(root, root / name):
            assert imported in hashed or computes_nothing.match(imported), f"{name} imports {imported}"


def imported_modules(root: Path, path: Path) -> Iterator[str]:
    """The modules of the package that a file imports, as paths in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("mixcoder"):
            for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                file = Path(*name.split(".")[1:])
                for candidate in (file.with_suffix(".py"), file / "__init__.py"):
                    if file.name and (root / candidate).is_file():
                        yield candidate.as_posix()
