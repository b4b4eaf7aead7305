"""Emits contractions: gemms, batches of gemms, or sums in registers for a few long rows.

contract ─arrange─▶ matrices in memory, operands copied where they must be ─▶ operations
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mixcoder.backends.native.contractions import (
    Arrangement,
    Loop,
    UnsuitedError,
    arrange,
    result_order,
)
from mixcoder.backends.native.graph import Node, split_labels
from mixcoder.backends.native.placement import Placement, root_of
from mixcoder.backends.native.placing import Place, UnsuitedResultError
from mixcoder.backends.native.program import FLOAT_BYTES, Batch
from mixcoder.backends.native.shards import WeightGemm

_FEW, _LONG = 64, 512
"""Rows and columns of a result, and elements of the sums, of a product that is best added up in registers."""


def emit_contraction(placement: Placement, node: Node, added_to: Place | None) -> None:
    """Emits a contraction, and notes where its result lies.

    Args:
        placement: of its operands and of its result.
        node: the contraction.
        added_to: an array that the result is added to; None where it is stored.

    Raises:
        UnsuitedResultError: it cannot be added to an array that lies so.
    """
    if added_to is not None:
        places, arrangement = _arranged(placement, node, added_to)
        _emit(placement, node, places, Products(arrangement, added_to, is_added=True))
        placement.put(node, added_to)
        return
    wanted = placement.wanted(node)
    try:
        places, arrangement = _arranged(placement, node, wanted)
    except UnsuitedResultError:
        wanted = None
        places, arrangement = _arranged(placement, node, None)
    result = wanted or placement.fresh(node, result_order(node.attributes[0], arrangement.order))
    _emit(placement, node, places, Products(arrangement, result, is_added=False))
    placement.put(node, result)


def emit_operands(placement: Placement, node: Node) -> WeightGemm:
    """Emits the operands of a weight's gradients beside those of other shards; returns the product of all.

    Args:
        placement: of the operands, which have slots.
        node: the contraction; its result is wanted at the place of a parameter's gradients.
    """
    of_a, _, of_result = split_labels(node.attributes[0])
    for x in node.inputs:
        placement.operand(x, placement.dense(x))
    wanted = placement.wanted(node)
    assert wanted is not None
    first = wanted.order[0]
    gradients, inputs = node.inputs if of_result[first] == of_a[-1] else node.inputs[::-1]
    rows = math.prod(gradients.shape[:-1]) * placement.shard.count
    sizes = gradients.shape[-1], inputs.shape[-1], rows
    slots = [placement.all_slots(x) for x in (gradients, inputs)]
    return WeightGemm(slots[0], slots[1], placement.weight_of_gradient(wanted), sizes)


@dataclass(frozen=True)
class Products:
    """Products of matrices and their result.

    Attributes:
        arrangement: of the operands.
        result: where it lies.
        is_added: to what is there.
    """

    arrangement: Arrangement
    result: Place
    is_added: bool


def _arranged(placement: Placement, node: Node, result: Place | None) -> tuple[list[Place], Arrangement]:
    """Returns the places of the operands, or of their copies, and how they are multiplied."""
    places = [placement.place(x) for x in node.inputs]
    leading = _leading(node)
    while True:
        try:
            return places, arrange(node.attributes[0], (places[0], places[1]), leading, result)
        except UnsuitedError as error:
            places[error.operand] = _copied(placement, node, error)


def _leading(node: Node) -> int:
    """Returns the operand that depends on the images; of two such the larger one."""
    a, b = node.inputs
    if a.is_of_images == b.is_of_images:
        return int(b.size > a.size)
    return int(b.is_of_images)


def _copied(placement: Placement, node: Node, error: UnsuitedError) -> Place:
    """Returns the place of a copy of an operand, its labels in the order that a product takes."""
    labels = split_labels(node.attributes[0])[error.operand]
    order = [labels.index(label) for label in error.labels]
    rest = [axis for axis in range(len(labels)) if axis not in order]
    return placement.dense(node.inputs[error.operand], [*rest, *order])


def _emit(placement: Placement, node: Node, places: list[Place], products: Products) -> None:
    of = products.arrangement
    operands = node.inputs[of.row_operand], node.inputs[1 - of.row_operand]
    lie = places[of.row_operand], places[1 - of.row_operand]
    if _is_added_up(operands, products):
        addresses = [lie[0].address, lie[1].address, products.result.address]
        placement.program.emit("correlate", [*of.sizes, of.a.stride, 1], addresses)
        return
    a, b = (placement.operand(x, at) for x, at in zip(operands, lie, strict=True))
    loops = sorted(of.loops)  # the longest is counted by one operation
    for moved in _moves(loops[:-1]):
        steps = (placement.program.operand_bytes, placement.program.operand_bytes, FLOAT_BYTES)
        starts = (a, b, products.result.address)
        addresses = [start + step * count for start, step, count in zip(starts, steps, moved, strict=True)]
        _emit_gemm(placement, products, addresses, loops[-1] if loops else None)


def _is_added_up(operands: tuple[Node, Node], products: Products) -> bool:
    """Returns whether sums over long rows of both operands are best added up in registers."""
    of = products.arrangement
    m, n, k = of.sizes
    is_few = max(m, n) <= _FEW and k >= _LONG and not of.loops and not products.is_added
    lie_alike = not of.a.is_transposed and of.b.is_transposed and of.a.stride == of.b.stride
    reads_weights = any(root_of(x).operation == "parameter" for x in operands)
    return is_few and lie_alike and of.c_stride == n and not reads_weights


def _moves(loops: Sequence[Loop]) -> Iterator[tuple[int, int, int]]:
    """Yields how far a, b and c move for each combination of counts."""
    for counts in itertools.product(*(range(loop.size) for loop in loops)):
        pairs = list(zip(counts, loops, strict=True))
        yield (
            sum(count * loop.a for count, loop in pairs),
            sum(count * loop.b for count, loop in pairs),
            sum(count * loop.c for count, loop in pairs),
        )


def _emit_gemm(placement: Placement, products: Products, addresses: list[int], loop: Loop | None) -> None:
    of = products.arrangement
    strides = of.a.stride, of.b.stride, of.c_stride
    if loop is None:
        matrices = [of.a.is_transposed, of.b.is_transposed, *of.sizes, *strides]
        name = "gemm" if placement.program.operand_bytes == FLOAT_BYTES else "gemm_bf16"
        placement.program.emit(name, matrices, addresses, float(products.is_added))
        return
    a, b, c = addresses
    batch = Batch(loop.size, (loop.a, loop.b, loop.c), strides)
    transposed = "a" * of.a.is_transposed + "b" * of.b.is_transposed
    placement.program.gemm_batch((a, b), c, of.sizes, batch, transposed, beta=float(products.is_added))
