"""The facts of a training run that decide the choice of a backend."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch

from mixcoder.models.autoencoder import Autoencoder

_SMALLEST_SHARD = 16
"""Images, below which a thread's shard of a batch is too small to pay."""
_BFLOAT16_PAYS_FROM = 2e6
"""Multiply-adds of an image, below which converting to bfloat16 takes more time than it saves."""


@dataclass(frozen=True)
class Workload:
    """A training run to be computed.

    Attributes:
        model: on the meta device while a run is planned.
        madds: multiply-adds of one image, forward.
        batch_size: images of a step.
        total_inputs: images of the whole run, counting repetitions.
        device: to compute on.
        compile: "on" asks for compiled steps, "off" forbids them, "auto" takes them where they save time.
        precision: of matrix products and convolutions; "auto" takes bfloat16 where it is faster.
    """

    model: Autoencoder
    madds: int
    batch_size: int
    total_inputs: int
    device: torch.device
    compile: Literal["auto", "on", "off"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"

    @property
    def total_madds(self) -> int:
        """Multiply-adds of the whole run, forward."""
        return self.madds * self.total_inputs

    def shard(self, images: int) -> Workload:
        """Returns the workload of a process that computes so many images of each batch."""
        return replace(self, batch_size=images, total_inputs=self.total_inputs * images // self.batch_size)

    def pays_from(self, total_madds: float) -> bool:
        """Returns whether compiling is asked for, or saves time, as it does from `total_madds` on."""
        return self.compile == "on" or (self.compile == "auto" and self.total_madds >= total_madds)


def shards_of(batch_size: int) -> int:
    """Returns how many equal shards of a batch the threads can take."""
    counts = range(2, torch.get_num_threads() + 1)
    fitting = [n for n in counts if batch_size % n == 0 and batch_size // n >= _SMALLEST_SHARD]
    return max(fitting, default=1)


def bfloat16_instructions(device: torch.device) -> str:
    """Returns what multiplies bfloat16 faster than float32 on a device; empty where nothing does."""
    if device.type == "cuda":
        return "tensor cores" if torch.cuda.is_bf16_supported(including_emulation=False) else ""
    capabilities = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    names = {"amx_bf16": "AMX tiles", "avx512_bf16": "AVX-512"}
    return next((name for capability, name in names.items() if capabilities.get(capability)), "")


def library_bfloat16_pays_from(device: torch.device) -> float:
    """Returns the multiply-adds of an image, from which torch's library computes faster in bfloat16."""
    return _BFLOAT16_PAYS_FROM if bfloat16_instructions(device) else math.inf
