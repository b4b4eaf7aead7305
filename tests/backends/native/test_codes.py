"""The kernels know every operation, activation, loss and scalar that codes.py states, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from mixcoder.backends.losses import LOSSES as TRAINING_LOSSES
from mixcoder.backends.native import build, codes
from mixcoder.models.activations import ACTIVATIONS, OUTPUT_ACTIVATIONS, Sigmoid, TanhGelu

FOLDER = Path(build.__file__).with_name("kernels")
KERNELS = "".join(path.read_text(encoding="utf-8") for path in sorted(FOLDER.iterdir(), reverse=True))


def test_every_operation_has_a_kernel() -> None:
    loop = (FOLDER / "kernels.cpp").read_text(encoding="utf-8").rpartition("mixcoder_run")[2]
    cases = re.findall(r"case (\w+):", loop)
    assert sorted(case.lower() for case in cases) == sorted(codes.OPERATIONS)


def test_every_activation_is_a_struct_and_known_to_models() -> None:
    structs = set(re.findall(r"struct (\w+) \{\n    static constexpr bool HAS_DERIVATIVE", KERNELS))
    assert structs == {activation.__name__ for activation in codes.ACTIVATIONS}
    registered = {registry[name] for registry in (ACTIVATIONS, OUTPUT_ACTIVATIONS) for name in registry}
    assert registered - {TanhGelu, Sigmoid} == set(codes.ACTIVATIONS)  # these two are made of arithmetic


def test_every_loss_is_there() -> None:
    assert tuple(TRAINING_LOSSES) == codes.LOSSES


def test_every_scalar_of_an_optimizer_is_used() -> None:
    used = set(re.findall(r"scalars\.(\w+)", KERNELS))
    assert used == {name for kind in codes.SCALARS for name in kind._fields}


def test_the_header_states_them() -> None:
    header = codes.cpp_header()
    assert "enum Code { LOAD_PATCHES, GEMM, " in header
    assert "enum Loss { MSE, L1, HUBER };" in header
    assert "X(GELU)" in header
    assert f"ABANDONED = {codes.ABANDONED}" in header
