"""Random networks on kernels compiled with a sanitizer; `tests.faults.sanitizers` starts this process.

    kernels.so ─▶ loaded in place of the run's own
    buffers    ─▶ each in memory of its own size, filled with NaN: a byte beyond its end is no other buffer's
    networks   ─▶ compared with eager steps, as `tests.faults.networks` does

The sanitizer ends the process at its first report, below the name of the network.
"""

from __future__ import annotations

import argparse
import ctypes
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
import torch
from torch import Tensor

from mixcoder.backends.native import build, program
from mixcoder.backends.native.buffers import Buffers
from mixcoder.backends.native.codes import OPERATIONS
from mixcoder.backends.native.program import FLOAT_BYTES, Program
from tests.faults.network_check import RefusedError, check_network
from tests.faults.random_networks import Case, draw

_NAN = 0xFF
"""Of which every byte makes NaN, in float32 and in bfloat16."""
_READS_BEYOND = {
    **{OPERATIONS.index(name): (1,) for name in ("convolve", "convolve_field")},
    **{OPERATIONS.index(name): (0, 1) for name in ("correlate_field", "correlate_field_bf16")},
}
"""The arguments beyond whose end operations may read."""


class ApartBuffers(Buffers):
    """Buffers that share no memory; none has more than it was asked for, unless an operation may read on.

    Attributes:
        reads_beyond: addresses that such operations read.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reads_beyond: set[int] = set()
        self._sizes: list[int] = []
        self._memory: list[Tensor] = []

    def new(self, size: int) -> int:
        """Returns the virtual address of a buffer, with room behind it that no other buffer has."""
        self._sizes.append(size)
        return super().new(size + self._room)

    def place(self, addresses: np.ndarray) -> Tensor:
        """Makes virtual addresses real ones, in place; returns memory to be kept."""
        starts = np.array(self._starts, dtype=np.uint64)
        buffers = np.searchsorted(starts, addresses, side="right") - 1
        far = {int(np.searchsorted(starts, address, side="right")) - 1 for address in self.reads_beyond}
        for index, size in enumerate(self._sizes):
            room = self._room if index in far else 0
            self._memory.append(torch.full((size + room,), _NAN, dtype=torch.uint8))
            inside = (addresses >= starts[0]) & (buffers == index)
            addresses[inside] += np.uint64(self._memory[-1].data_ptr()) - starts[index]
        return torch.empty(0)

    @property
    def _room(self) -> int:
        return program._READ_BEYOND * FLOAT_BYTES


def _buffer(self: Program, elements: int, element_bytes: int = FLOAT_BYTES) -> int:
    """In place of `Program.buffer`: no room to read on."""
    return self._buffers.new(elements * element_bytes)


def _noting_what_reads_on(operations: Callable[[Program], np.ndarray]) -> Callable[[Program], np.ndarray]:
    """In place of `Program.operations`: tells the buffers which of them may be read beyond their end."""

    def noted(self: Program) -> np.ndarray:
        buffers = self._buffers
        assert isinstance(buffers, ApartBuffers)
        buffers.reads_beyond = {
            places[argument]
            for code, _, _, places in self._operations
            for argument in _READS_BEYOND.get(code, ())
        }
        return operations(self)

    return noted


def use_kernels(library: Path) -> None:
    """Lets native steps run these kernels, with gemms of their own, on buffers that lie apart."""
    replacements = (
        (build, "build_once", partial(_built, library)),
        (build, "set_gemms", _set_own_gemms),
        (program, "Buffers", ApartBuffers),
        (Program, "buffer", _buffer),
        (Program, "operations", _noting_what_reads_on(Program.operations)),
    )
    for owner, name, replacement in replacements:
        assert hasattr(owner, name)
        setattr(owner, name, replacement)


def _built(library: Path, key: str, kind: str, compile_to: object) -> Path:
    """In place of `build_once`."""
    return library


def _set_own_gemms(kernels: ctypes.CDLL) -> None:
    """A sanitizer sees nothing of what a BLAS reads and writes."""
    kernels.mixcoder_set_blas(None, None)


def case_of(number: int, seed: int, least_shards: int) -> Case:
    """A network and its training, in at least so many shards."""
    case = draw(Random(f"network {seed} {number}"))
    shards = max(case["shards"], least_shards)
    return {**case, "shards": shards, "batch_size": case["batch_size"] // case["shards"] * shards}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("library", type=Path)
    parser.add_argument("--networks", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--least-shards", type=int, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    use_kernels(options.library)
    equal = refused = differing = 0
    for number in range(options.networks):
        print(f"network {number} of seed {options.seed}", flush=True)
        try:
            problem = check_network(case_of(number, options.seed, options.least_shards))
        except RefusedError:
            refused += 1
            continue
        equal += not problem
        differing += bool(problem)
        if problem:
            print(f"differs: {problem}", flush=True)
    print(f"{equal} equal, {refused} refused, {differing} differing")
    raise SystemExit(bool(differing))


if __name__ == "__main__":
    main()
