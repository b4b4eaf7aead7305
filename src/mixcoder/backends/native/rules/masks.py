"""Rules of conditions on elements, such as x > 0: 1 where one holds, 0 elsewhere, without a gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mixcoder.backends.native import graph
from mixcoder.backends.native.graph import Node
from mixcoder.backends.native.rules import arithmetic, indexing, shapes, tensor_facts
from mixcoder.backends.native.rules.arithmetic import Operand, add, as_node, is_above, kept, mul
from mixcoder.backends.native.rules.rule_table import check, rule


@dataclass(frozen=True, eq=False)
class Mask:
    """A condition on elements, as booleans are in torch.

    Attributes:
        node: 1 where it holds, 0 elsewhere.
    """

    node: Node


Condition = Mask | Tensor
"""One that training changes, or a constant."""


def _node_of(condition: Condition) -> Node:
    return condition.node if isinstance(condition, Mask) else as_node(condition)


def _negated(node: Node) -> Node:
    return graph.affine(node, -1, 1)


@rule("gt", "greater")
def gt(a: Operand, b: Operand) -> Mask:
    """Returns where a > b."""
    return Mask(is_above(a, b))


@rule("lt", "less")
def lt(a: Operand, b: Operand) -> Mask:
    """Returns where a < b."""
    return Mask(is_above(b, a))


@rule("ge", "greater_equal")
def ge(a: Operand, b: Operand) -> Mask:
    """Returns where a ≥ b."""
    return Mask(_negated(is_above(b, a)))


@rule("le", "less_equal")
def le(a: Operand, b: Operand) -> Mask:
    """Returns where a ≤ b."""
    return Mask(_negated(is_above(a, b)))


@rule("logical_not", "bitwise_not", "Tensor.__invert__")
def negation(a: Mask) -> Mask:
    """Returns where a condition does not hold."""
    return Mask(_negated(a.node))


@rule("logical_and", "bitwise_and", "Tensor.__and__", "Tensor.__rand__")
def conjunction(a: Condition, b: Condition) -> Mask:
    """Returns where both conditions hold."""
    return Mask(mul(_node_of(a), _node_of(b)))


@rule("logical_or", "bitwise_or", "Tensor.__or__", "Tensor.__ror__")
def disjunction(a: Condition, b: Condition) -> Mask:
    """Returns where one of the conditions holds."""
    return Mask(_negated(mul(_negated(_node_of(a)), _negated(_node_of(b)))))


@rule("where")
def where(condition: Condition, x: Operand, y: Operand) -> Node:
    """Returns x where a condition holds, y elsewhere."""
    if isinstance(condition, Tensor):
        return arithmetic.choose(condition, x, y)
    return add(kept(x, condition.node), kept(y, _negated(condition.node)))


@rule("masked_fill")
def masked_fill(x: Node, mask: Condition, value: Operand) -> Node:
    """Returns x with a value where a condition holds."""
    return where(mask, value, x)


@rule("Tensor.bool")
def as_condition(x: Mask) -> Mask:
    """Returns a condition."""
    check(isinstance(x, Mask), "a condition that an element is not 0")
    return x


def masked(made_by: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Returns what a rule makes of arguments with masks among them.

    Raises:
        UnsupportedError: the rule takes no masks.
    """
    if made_by in _OF_CONDITIONS:
        return made_by(*args, **kwargs)
    numbers = [arg.node if isinstance(arg, Mask) else arg for arg in args]
    if made_by is arithmetic.mul:
        check({*map(type, args)} == {Mask, Node}, "a product of conditions, or with a number")
        return made_by(*numbers)
    is_known = made_by in _CONVERSIONS or made_by in _MOVES
    check(
        is_known and not any(isinstance(arg, Mask) for arg in args[1:]), "a condition in the place of numbers"
    )
    made = made_by(*numbers, **kwargs)
    return Mask(made) if made_by in _MOVES and isinstance(made, Node) else made


_OF_CONDITIONS = {negation, conjunction, disjunction, where, masked_fill, as_condition}
_CONVERSIONS = {shapes.same, shapes.converted}
_MOVES = {
    *(tensor_facts.shape, tensor_facts.size, tensor_facts.rank, tensor_facts.count),
    *(tensor_facts.length, tensor_facts.device),
    *(shapes.reshape, shapes.flatten, shapes.unflatten, shapes.squeeze, shapes.unsqueeze, shapes.permute),
    *(shapes.transpose, shapes.expand, shapes.expand_as, shapes.select, indexing.getitem),
}
