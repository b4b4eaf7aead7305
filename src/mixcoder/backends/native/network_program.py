"""Emits the operations of a step up to its gradients: a program for each shard of the batch.

convert this thread's slice of the weights to bfloat16, where products take it
  ├─ barrier: all weights are converted
the network forward ─▶ loss ─▶ backward
  ├─ barrier: all shards have activations and gradients
this thread's slice of the parameters: reduction.py
"""

from __future__ import annotations

from collections.abc import Sequence

from mixcoder.backends.native.graph import Node
from mixcoder.backends.native.lowering import Lowering
from mixcoder.backends.native.movement import emit_move
from mixcoder.backends.native.network_graph import NetworkGraph
from mixcoder.backends.native.placement import Leaves, Placement
from mixcoder.backends.native.program import FLOAT_BYTES, Program
from mixcoder.backends.native.shards import Shard, WeightGemm
from mixcoder.backends.native.slices import blocks, intersection
from mixcoder.backends.native.step_memory import StepMemory


def emit_conversion(
    program: Program, leaves: Leaves, read: Sequence[Node], memory: StepMemory, index: int
) -> None:
    """Emits this thread's slice of the conversion to bfloat16 of the parameters that products read."""
    vectors, own = memory.vectors(index), memory.own_slice(index)
    if vectors.operands == vectors.values:
        return
    for node in read:
        start = (leaves.value(node).address - vectors.values) // FLOAT_BYTES
        for block in blocks(intersection(slice(start, start + node.size), own), node.size):
            value = vectors.values + FLOAT_BYTES * block.start
            operand = vectors.operands + program.operand_bytes * block.start
            program.emit("to_bf16", [block.stop - block.start], [value, operand])
    memory.emit_barrier(program)


def emit_network(program: Program, graph: NetworkGraph, leaves: Leaves, shard: Shard) -> list[WeightGemm]:
    """Emits forward, loss and backward of a shard; returns the products that are left to the end of the step.

    Raises:
        UnsupportedError: a part of the network has no operations.
    """
    wanted = graph.wanted(leaves)
    placement = Placement(program, shard, leaves, wanted, graph.slots, graph.finals)
    lowering = Lowering(graph, placement, leaves.vectors.loss)
    lowering.run()
    for parameter, gradient in zip(graph.parameters, graph.gradients, strict=True):
        if gradient is None or graph.is_deferred(gradient):
            continue
        place, target = placement.place(gradient), leaves.gradient(parameter)
        if place != target:
            emit_move(program, place, target)
    return lowering.weight_gemms
