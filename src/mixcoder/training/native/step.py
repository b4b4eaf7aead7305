"""Loss and gradients of a Mixer by `kernels.cpp`.

layers ─▶ operations forward ─▶ loss ─▶ operations back     written once
images (B, C, H, W) uint8 ─▶ run ─▶ gradients (N,), loss ()  at every step, without Python's lock
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator
from itertools import chain

import torch
from torch import Tensor, nn

from mixcoder.models.mixer_mlp import MixerMLP
from mixcoder.training.fingerprint import has_hooks
from mixcoder.training.flat_parameters import FlatParameters
from mixcoder.training.native.layers import Back, Network, UnsupportedError, write_layer
from mixcoder.training.native.library import load_kernels
from mixcoder.training.native.tape import CODES, Tape

_LOSSES = ("mse", "l1", "huber")
"""In the order of `Loss` in `kernels.cpp`."""


class NativeStep:
    """Takes images (B, C, H, W) uint8 on the CPU; gives gradients (N,) and loss (), till the next call.

    Threads may each run one, side by side.

    Args:
        model: whose layers all have operations.
        parameters: all of the model, none of them shared or frozen.
        loss: "mse", "l1" or "huber".
        precision: of matrix products: torch.float32 or torch.bfloat16. All else is float32.
        batch_size: B.

    Raises:
        UnsupportedError: the model is another.
        Exception: the kernels cannot be compiled here.
    """

    def __init__(
        self,
        model: nn.Module,
        parameters: FlatParameters,
        loss: str,
        precision: torch.dtype,
        batch_size: int,
    ) -> None:
        self._parameters = parameters  # lives as long: the operations know where it lies
        self._gradients = torch.zeros_like(parameters.vector.detach())
        self._loss = torch.zeros(())
        self._tape = Tape(precision)
        mixer = _as_mixer(model)
        to_gradients = self._gradients.data_ptr() - parameters.vector.data_ptr()
        _write(self._tape, mixer, loss, batch_size, self._loss, to_gradients)
        self._operations = self._tape.operations()
        self._run = load_kernels(precision).mixcoder_run
        self._shape = (batch_size, *mixer.image_shape)

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        assert images.shape == self._shape
        self._run_part(0, len(self._operations), images.contiguous())
        return self._gradients, self._loss

    def timed(self, images: Tensor) -> Iterator[tuple[str, float]]:
        """The same one by one: each operation's name and the seconds that it takes."""
        for i, operation in enumerate(self._operations):
            start = time.perf_counter()
            self._run_part(i, 1, images)
            yield CODES[operation["code"]], time.perf_counter() - start

    def _run_part(self, first: int, count: int, images: Tensor) -> None:
        operations = self._operations.ctypes.data + first * self._operations.itemsize
        self._run(ctypes.c_void_p(operations), count, ctypes.c_void_p(images.data_ptr()))


def has_operations(model: nn.Module) -> bool:
    """Whether `NativeStep` can do a model, but for what the machine may lack."""
    try:
        _write(Tape(torch.float32), _as_mixer(model), _LOSSES[0], 1, torch.zeros(()), 0)
    except UnsupportedError:
        return False
    return True


def _write(tape: Tape, model: MixerMLP, loss: str, batch: int, total: Tensor, to_gradients: int) -> None:
    """Writes the step of a batch, whose loss goes to `total`, gradients to what is so many bytes on."""
    channels, height, width = model.image_shape
    pixels = channels * height * width
    numbers = torch.arange(pixels, dtype=torch.float64).view(1, channels, height, width)
    index = model.patchify(numbers).to(torch.int32).contiguous()  # (1, P, C·p·p): which pixel is where
    _, patches, breadth = index.shape

    images = tape.buffer(batch * pixels)
    tape.do("input", [batch, pixels, patches, breadth], [tape.keep(index), images])
    net = Network(tape, batch, patches, breadth, images, to_gradients)
    x, ways_back = images, list[Back]()
    for layer in chain(model.encoder.children(), model.decoder.children()):
        x, back = write_layer(net, layer, x)
        ways_back.append(back)
    mean = 1 / (batch * pixels)
    tape.do("loss", [batch * pixels, _LOSSES.index(loss)], [x, images, total.data_ptr()], mean)
    gradient = x  # which the loss puts in place of the outputs
    for back in reversed(ways_back):
        gradient = back(gradient)


def _as_mixer(model: nn.Module) -> MixerMLP:
    """The model, where it is one that has operations but for its layers, which are looked at one by one."""
    if type(model) is not MixerMLP:
        raise UnsupportedError(f"no operations for {type(model).__name__}")
    parameters = [it for _, it in model.named_parameters(remove_duplicate=False)]
    if len({*parameters}) < len(parameters) or not all(it.requires_grad for it in parameters):
        raise UnsupportedError("parameters are shared or frozen")
    if any(map(has_hooks, model.modules())):
        raise UnsupportedError("a layer has a hook")
    return model
