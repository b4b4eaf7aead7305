"""Loss and gradients of a Mixer by `kernels.cpp`.

    images (B, C, H, W) uint8, in equal parts      for each part a list of operations, run by a thread of its
      │ a share of rounding weights                own, without Python's lock
      ├─ meet: the others have rounded theirs
      │ layers forward ─▶ loss ─▶ layers back
      ├─ meet: every part has its activations
      │ a share of the gradients of large weights, over all parts
      │ a share of adding up the gradients of small ones, and the loss
    gradients (N,), loss ()

A thread's share is what lies in its part of the vector of all parameters: it stays in its own cache.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain, pairwise

import numpy as np
import torch
from torch import Tensor, nn

from mixcoder.models.mixer_mlp import MixerMLP
from mixcoder.training.fingerprint import has_hooks
from mixcoder.training.flat_parameters import FlatParameters
from mixcoder.training.native.layers import Back, Network, UnsupportedError, Vectors, write_layer
from mixcoder.training.native.library import load_kernels
from mixcoder.training.native.tape import CACHE_LINE, CODES, NUMBER, Tape, operations_of
from mixcoder.training.threads import side_by_side

_LOSSES = ("mse", "l1", "huber")
"""In the order of `Loss` in `kernels.cpp`."""


class NativeStep:
    """Takes images (B, C, H, W) uint8 on the CPU; gives gradients (N,), till the next call, and loss ().

    Args:
        model: whose layers all have operations.
        parameters: all of the model, none of them shared or frozen.
        loss: "mse", "l1" or "huber".
        precision: of matrix products: torch.float32 or torch.bfloat16. All else is float32.
        batch_size: B.
        parts: of a batch, each computed by a thread; they divide B.

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
        parts: int = 1,
    ) -> None:
        mixer, values = _as_mixer(model), parameters.vector.detach()
        operands = values if precision == torch.float32 else torch.zeros_like(values, dtype=precision)
        results = [torch.zeros(len(values) + 1) for _ in range(parts)]  # gradients and loss of each part
        self._tapes = [Tape(precision, index) for index in range(parts)]
        self._result, self._calls = results[0], torch.zeros((), dtype=torch.int64)
        self._memory = [values, operands, *results]  # known to the operations by address
        meeting = [parts], [self._calls.data_ptr()]
        shares = [_share(len(values) + 1, index, parts) for index in range(parts)]
        networks = []
        for tape, share, result in zip(self._tapes, shares, results, strict=True):
            vectors = Vectors(values.data_ptr(), operands.data_ptr(), result.data_ptr())
            if operands is not values:
                _write_rounding(tape, mixer, vectors, share)
                tape.do("meet", *meeting)
            total = result[-1:].data_ptr()
            networks.append(_write_network(tape, mixer, loss, batch_size, parts, vectors, total))
        for tape, share in zip(self._tapes, shares, strict=True):
            tape.do("meet", *meeting)
            _write_sums(tape, networks, share)
        self._operations = operations_of(self._tapes)
        self._run = load_kernels(precision).mixcoder_run
        self._shape = (batch_size, *mixer.image_shape)

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        assert images.shape == self._shape
        parts = images.contiguous().chunk(len(self._operations))
        jobs = [partial(self._run_list, *job) for job in zip(self._operations, parts, strict=True)]
        try:
            side_by_side(jobs)
        except BaseException:  # such as Ctrl-C, before this thread's part began: the others wait for it
            self._calls.fill_(2**62)
            raise
        return self._result[:-1], self._result[-1].clone()

    def timed(self, images: Tensor) -> Iterator[tuple[str, float]]:
        """The same one by one, of a step in one part: each operation's name and the seconds that it takes."""
        [operations] = self._operations
        for i, operation in enumerate(operations):
            start = time.perf_counter()
            self._run_list(operations[i : i + 1], images)
            yield CODES[operation["code"]], time.perf_counter() - start

    def _run_list(self, operations: np.ndarray, images: Tensor) -> None:
        self._run(
            ctypes.c_void_p(operations.ctypes.data), len(operations), ctypes.c_void_p(images.data_ptr())
        )


def has_operations(model: nn.Module) -> bool:
    """Whether `NativeStep` can do a model, but for what the machine may lack."""
    try:
        _write_network(Tape(torch.float32), _as_mixer(model), _LOSSES[0], 1, 1, Vectors(0, 0, 0), 0)
    except UnsupportedError:
        return False
    return True


def _write_rounding(tape: Tape, model: MixerMLP, vectors: Vectors, share: slice) -> None:
    """Writes what makes operands of the weights of Linear layers, as far as they lie in a share of all."""
    for weight in (it.weight for it in model.modules() if isinstance(it, nn.Linear)):
        start = (weight.data_ptr() - vectors.values) // NUMBER
        mine = _overlap(slice(start, start + weight.numel()), share)
        if mine.start < mine.stop:
            value = vectors.values + NUMBER * mine.start
            operand = vectors.operands + tape.operand_bytes * mine.start
            tape.do("round", [mine.stop - mine.start], [value, operand])


def _write_network(
    tape: Tape, model: MixerMLP, loss: str, batch_size: int, parts: int, vectors: Vectors, total: int
) -> Network:
    """Writes the way of a part of a batch, forward and back.

    Args:
        tape: where it is written.
        model: whose way it is.
        loss: by name.
        batch_size: of the whole batch.
        parts: of that.
        vectors: where weights are, and their gradients are to be.
        total: address of the loss.
    """
    channels, height, width = model.image_shape
    pixels, batch = channels * height * width, batch_size // parts
    numbers = torch.arange(pixels, dtype=torch.float64).view(1, channels, height, width)
    index = model.patchify(numbers).to(torch.int32).contiguous()  # (1, P, C·p·p): which pixel is where
    _, patches, breadth = index.shape

    images = tape.buffer(batch * pixels)
    tape.do("input", [batch, pixels, patches, breadth], [tape.keep(index), images])
    net = Network(tape, batch, patches, breadth, images, vectors, may_share=parts > 1)
    x, ways_back = images, list[Back]()
    for layer in chain(model.encoder.children(), model.decoder.children()):
        x, back = write_layer(net, layer, x)
        ways_back.append(back)
    tape.do("loss", [batch * pixels, _LOSSES.index(loss)], [x, images, total], 1 / (batch_size * pixels))
    gradient = x  # which the loss puts in place of the outputs
    for back in reversed(ways_back):
        gradient = back(gradient)
    return net


def _write_sums(tape: Tape, networks: Sequence[Network], share: slice) -> None:
    """Writes what makes the first part's gradients and loss those of all parts, in a share of them."""
    first, *others = (net.vectors for net in networks)
    done = [slice(0, 0)]
    for of_parts in zip(*(net.large_products for net in networks), strict=True):
        rows, columns, _ = of_parts[0].sizes
        start = (of_parts[0].weight - first.values) // NUMBER
        mine = slice(*(min(max(0, -(-(it - start) // columns)), rows) for it in (share.start, share.stop)))
        for i, (of_outputs, inputs, weight, sizes) in enumerate(of_parts):
            gradient = first.gradient_of(weight)
            tape.product(of_outputs, inputs, gradient, sizes, transposed="a", added=i > 0, rows=mine)
        done.append(slice(start, start + rows * columns))
    done.sort(key=lambda it: it.start)
    for before, after in pairwise([*done, slice(share.stop, share.stop)]):
        rest = _overlap(slice(before.stop, after.start), share)
        for other in others if rest.start < rest.stop else []:
            tape.do(
                "add", [rest.stop - rest.start], [it.gradients + NUMBER * rest.start for it in (other, first)]
            )


def _share(length: int, index: int, count: int) -> slice:
    """One of so many equal parts of a vector, but for rounding to cache lines."""
    size = -(-length // count // CACHE_LINE) * CACHE_LINE
    return slice(min(size * index, length), min(size * (index + 1), length))


def _overlap(one: slice, other: slice) -> slice:
    """What is in both; where nothing is, it stops before it starts."""
    return slice(max(one.start, other.start), min(one.stop, other.stop))


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
