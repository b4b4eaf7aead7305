"""Our writer of safetensors files: what the library reads back, the same bytes each time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from mixcoder.errors import WriteError
from mixcoder.io.safetensors_file import write_tensors
from tests.conftest import slow

TENSORS: dict[str, Tensor] = {
    "odd": torch.arange(5, dtype=torch.uint8),
    "bool": torch.tensor([True, False, True]),
    "half": torch.randn(3, 3).half(),
    "bf16": torch.randn(7).bfloat16(),
    "double": torch.randn(2, 2, 2, dtype=torch.float64),
    "int": torch.tensor([-1, 2**40]),
    "int32": torch.tensor([[-(2**31)]], dtype=torch.int32),
    "single": torch.tensor(2.5),
    "nothing": torch.zeros(0, 4),
    "transposed": torch.randn(3, 5).T,
    "é\n": torch.randn(1),
}
SHARED = torch.randn(4)


def test_the_library_reads_what_was_written(tmp_path: Path) -> None:
    tensors = {**TENSORS, "one": SHARED, "two": SHARED, "part": SHARED[1:3]}
    write_tensors(tmp_path / "x", tensors, {"key": 'a "text"\nof two lines', "é": "ü"})
    loaded = load_file(tmp_path / "x")
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)
    with safe_open(tmp_path / "x", framework="pt") as file:
        assert file.metadata() == {"key": 'a "text"\nof two lines', "é": "ü"}


@slow
def test_the_same_tensors_and_metadata_are_the_same_bytes(tmp_path: Path) -> None:
    """In two processes, which order what is hashed each in its way."""
    write = (
        "import sys, torch; from pathlib import Path\n"
        "from mixcoder.io.safetensors_file import write_tensors\n"
        "metadata = {name: name for name in 'weights step inputs loss rate'.split()}\n"
        "write_tensors(Path(sys.argv[1]), {name: torch.ones(2) for name in 'xyz'}, metadata)"
    )
    contents = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", write, tmp_path / "x"], check=True, env=environment)
        contents.add((tmp_path / "x").read_bytes())
    assert len(contents) == 1


def test_a_type_that_the_format_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match=r"cannot write .*x: wave is of type torch.complex64"):
        write_tensors(tmp_path / "x", {"wave": torch.zeros(2, dtype=torch.complex64)}, {})
    assert not list(tmp_path.iterdir())
