"""Loss and gradients of a Mixer by `kernels.cpp`.

    images (B, C, H, W) uint8, in equal parts      for each part a list of operations, run by a thread of its
      │ a share of rounding weights                own, without Python's lock
      ├─ meet: the others have rounded theirs
      │ layers forward ─▶ loss ─▶ layers back
      ├─ meet: every part has its activations
      │ a share of the gradients of large weights, over all parts
      │ a share of adding up the gradients of small ones, and the loss
      │ the optimizer's update of that share, where it is asked for
    gradients (N,), loss ()

A thread's share is what lies in its part of the vector of all parameters: it stays in its own cache.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from itertools import chain, pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from mixcoder.backends.fingerprint import has_hooks
from mixcoder.backends.native.build import load_kernels
from mixcoder.backends.native.layers import Back, Network, Part, UnsupportedError, Vectors, write_layer
from mixcoder.backends.native.program import CODES, NUMBER, Tape
from mixcoder.backends.parameters import FlatParameters
from mixcoder.backends.threads import equal_parts, side_by_side
from mixcoder.models.mixer_mlp import MixerMLP
from mixcoder.training.optimizers import VectorAdamW

_LOSSES = ("mse", "l1", "huber")
"""In the order of `Loss` in `kernels.cpp`."""
_ABANDONED = 2**62
"""As `ABANDONED` there."""
_BLOCK = 2**17
"""Numbers that stay in a core's own cache while they are used."""

Use = Callable[[Tape, slice, int], None]
"""Writes what uses gradients that are at an address, for a place in the vector of all."""


class NativeStep:
    """Takes images (B, C, H, W) uint8 on the CPU; gives gradients (N,), till the next call, and loss ().

    Args:
        model: whose layers all have operations.
        parameters: all of the model, none of them shared or frozen.
        loss: "mse", "l1" or "huber".
        precision: of matrix products: torch.float32 or torch.bfloat16. All else is float32.
        batch_size: B.
        parts: of a batch, each computed by a thread; they divide B.
        optimizer: uses the gradients in the same step, and nobody gets them; see `with_optimizer`.

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
        optimizer: VectorAdamW | None = None,
    ) -> None:
        self._arguments = model, parameters, loss, precision, batch_size, parts
        mixer, self._memory = _as_mixer(model), _Memory(parameters.vector.detach(), precision, parts)
        self._shape = (batch_size, *mixer.image_shape)
        self._tapes = [Tape(precision) for _ in range(parts)]
        networks = []
        for index, tape in enumerate(self._tapes):
            _write_rounding(tape, mixer, self._memory, index)
            part = Part(index, parts, self._memory.common)
            networks.append(_write_network(tape, mixer, loss, batch_size, part, self._memory.vectors(index)))
        use = self._memory.use_of_gradients(optimizer)
        for index, tape in enumerate(self._tapes):
            self._memory.write_meeting(tape)
            _write_sums(tape, networks, self._memory.share(index), use)
        self._operations = [tape.operations() for tape in self._tapes]
        self._run = load_kernels(precision).mixcoder_run

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        assert images.shape == self._shape
        if int(self._memory.calls) >= _ABANDONED:
            raise RuntimeError("a step was interrupted on its way; make a new one")
        parts = images.contiguous().chunk(len(self._operations))
        jobs = [partial(self._run_list, *job) for job in zip(self._operations, parts, strict=True)]
        try:
            side_by_side(jobs)
        except BaseException:  # such as Ctrl-C, before this thread's part began: the others wait for it
            self._memory.calls.fill_(_ABANDONED)
            raise
        result = self._memory.results[0]
        return result[:-1], result[-1].clone()

    def with_optimizer(self, optimizer: VectorAdamW) -> Callable[[Tensor], Tensor]:
        """The whole training step, which takes the same images and gives the loss () before the update.

        Gradients of large weights never leave the cache: of a few rows they are computed and used at once.
        """
        step = NativeStep(*self._arguments, optimizer)

        def training_step(images: Tensor) -> Tensor:
            step._memory.rates[:] = optimizer.rates_of_next_step()
            return step(images)[1]

        return training_step

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
    tape, part, vectors = Tape(torch.float32), Part(0, 1, {}), Vectors(0, 0, 0, 0)
    try:
        _write_network(tape, _as_mixer(model), _LOSSES[0], 1, part, vectors)
    except UnsupportedError:
        return False
    return True


class _Memory:
    """What the operations of all parts know by address, but for the buffers between them.

    Args:
        values: (N,) of all parameters.
        precision: of products.
        parts: of a batch.

    Attributes:
        results: gradients and loss (N + 1,) of each part; in the end those of the first are those of all.
        calls: () int64, how often threads came to meet.
        common: what the parts have side by side, by name.
        rates: (6,) of the optimizer's step.
    """

    def __init__(self, values: Tensor, precision: torch.dtype, parts: int) -> None:
        self._values = values
        self._operands = values if precision == torch.float32 else torch.zeros_like(values, dtype=precision)
        self._optimizer: VectorAdamW | None = None
        self.results = [torch.zeros(len(values) + 1) for _ in range(parts)]
        self.calls = torch.zeros((), dtype=torch.int64)
        self.common: dict[Hashable, Tensor] = {}
        self.rates = np.zeros(6, dtype=np.float32)

    def vectors(self, index: int) -> Vectors:
        """The addresses of values, operands, and the gradients and loss of a part."""
        result = self.results[index]
        addresses = (it.data_ptr() for it in (self._values, self._operands, result, result[-1:]))
        return Vectors(*addresses)

    def share(self, index: int) -> slice:
        """The part of all values whose sums a thread makes."""
        return equal_parts(len(self._values), len(self.results))[index]

    def write_meeting(self, tape: Tape) -> None:
        """Writes that a thread waits till all have come so far."""
        tape.do("meet", [len(self.results)], [self.calls.data_ptr()])

    def use_of_gradients(self, optimizer: VectorAdamW | None) -> Use:
        """What writes how the gradients of all parts are used: by an optimizer, or kept."""
        if optimizer is None:
            return partial(_write_copy, self.vectors(0))
        self._optimizer = optimizer
        means, squares = (it.data_ptr() for it in optimizer.moments())
        return partial(_write_update, self.vectors(0), means, squares, self.rates.ctypes.data)


def _write_rounding(tape: Tape, model: MixerMLP, memory: _Memory, index: int) -> None:
    """Writes what makes operands of a share of the weights of Linear layers, and waits for the others'."""
    vectors, share = memory.vectors(index), memory.share(index)
    if vectors.operands == vectors.values:
        return
    for weight in (it.weight for it in model.modules() if isinstance(it, nn.Linear)):
        start = (weight.data_ptr() - vectors.values) // NUMBER
        for block in _blocks(_overlap(slice(start, start + weight.numel()), share), weight.numel()):
            value = vectors.values + NUMBER * block.start
            operand = vectors.operands + tape.operand_bytes * block.start
            tape.do("round", [block.stop - block.start], [value, operand])
    memory.write_meeting(tape)


def _write_network(
    tape: Tape, model: MixerMLP, loss: str, batch_size: int, part: Part, vectors: Vectors
) -> Network:
    """Writes the way of a part of a batch, forward and back.

    Args:
        tape: where it is written.
        model: whose way it is.
        loss: by name.
        batch_size: of the whole batch.
        part: of that.
        vectors: where weights are, and their gradients are to be.
    """
    channels, height, width = model.image_shape
    pixels, batch = channels * height * width, batch_size // part.count
    numbers = torch.arange(pixels, dtype=torch.float64).view(1, channels, height, width)
    index = model.patchify(numbers).to(torch.int32).contiguous()  # (1, P, C·p·p): which pixel is where
    _, patches, breadth = index.shape

    images = tape.buffer(batch * pixels)
    tape.do("input", [batch, pixels, patches, breadth], [tape.keep(index), images])
    net = Network(tape, batch, patches, breadth, images, vectors, part)
    x, ways_back = images, list[Back]()
    for layer in chain(model.encoder.children(), model.decoder.children()):
        x, back = write_layer(net, layer, x)
        ways_back.append(back)
    mean = 1 / (batch_size * pixels)
    tape.do("loss", [batch * pixels, _LOSSES.index(loss)], [x, images, vectors.loss], mean)
    gradient = x  # which the loss puts in place of the outputs
    for back in reversed(ways_back):
        gradient = back(gradient)
    return net


def _write_sums(tape: Tape, networks: Sequence[Network], share: slice, use: Use) -> None:
    """Writes what makes gradients those of all parts, in a share of them, and uses them; and the loss."""
    first, *others = (net.vectors for net in networks)
    for other in others if share.start == 0 else []:
        tape.do("add", [1], [other.loss, first.loss])
    done = [slice(0, 0)]
    for of_outputs, inputs, weight, sizes in networks[0].large_products:
        rows, columns, _ = sizes
        start = (weight - first.values) // NUMBER
        mine = slice(*(min(max(0, -(-(it - start) // columns)), rows) for it in (share.start, share.stop)))
        for block in _blocks(mine, max(1, _BLOCK // columns)):
            gradients = tape.buffer((block.stop - block.start) * columns)
            tape.product(of_outputs, inputs, gradients, sizes, transposed="a", rows=block)
            use(tape, slice(start + block.start * columns, start + block.stop * columns), gradients)
        done.append(slice(start, start + rows * columns))
    done.sort(key=lambda it: it.start)
    for before, after in pairwise([*done, slice(share.stop, share.stop)]):
        for block in _blocks(_overlap(slice(before.stop, after.start), share), _BLOCK):
            gradients = first.gradients + NUMBER * block.start
            for other in others:
                theirs = other.gradients + NUMBER * block.start
                tape.do("add", [block.stop - block.start], [theirs, gradients])
            use(tape, block, gradients)


def _write_copy(vectors: Vectors, tape: Tape, place: slice, gradients: int) -> None:
    """Writes what puts gradients where they are asked for."""
    out = vectors.gradients + NUMBER * place.start
    if gradients != out:
        tape.copy(gradients, place.stop - place.start, out)


def _write_update(
    vectors: Vectors, means: int, squares: int, rates: int, tape: Tape, place: slice, gradients: int
) -> None:
    """Writes what uses gradients, as AdamW does."""
    values, means, squares = (it + NUMBER * place.start for it in (vectors.values, means, squares))
    tape.do("adamw", [place.stop - place.start], [values, gradients, means, squares, rates])


def _blocks(whole: slice, size: int) -> list[slice]:
    """Parts of no more than a size."""
    return [slice(it, min(it + size, whole.stop)) for it in range(whole.start, whole.stop, size)]


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
    if any(map(is_parametrized, model.modules())):
        raise UnsupportedError("weights follow from others")
    return model
