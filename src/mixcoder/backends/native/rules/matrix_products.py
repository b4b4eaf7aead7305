"""Rules of products with sums over axes: linear layers, matrix products, einsum.

All are `product`: two operands with a label for each axis, as in einsum.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from string import ascii_letters
from typing import Any

from mixcoder.backends.native import graph
from mixcoder.backends.native.graph import Node
from mixcoder.backends.native.rules.arithmetic import add, as_node, mul
from mixcoder.backends.native.rules.rule_table import check, rule


def product(a: Node, b: Node, labels: str) -> Node:
    """Returns the product of two operands, summed over the labels that the result lacks: "bpc,oc->bpo".

    An axis of size 1 is repeated where the other operand has more under its label.
    """
    of_a, of_b, of_result = graph.split_labels(labels)
    sizes = dict.fromkeys(of_a + of_b, 1)
    for label, size in zip(of_a + of_b, a.shape + b.shape, strict=True):
        if size != 1 != sizes[label] != size:
            raise ValueError(f"a product of {a.shape} and {b.shape}: sizes of {label} in {labels} differ")
        sizes[label] = max(size, sizes[label])
    (a, of_a), (b, of_b) = _without_ones(a, of_a), _without_ones(b, of_b)
    (a, of_a), (b, of_b) = _summed(a, of_a, of_b + of_result), _summed(b, of_b, of_a + of_result)
    made = "".join(label for label in of_result if label in of_a + of_b)  # all but those of size 1
    if all(label in made for label in of_a + of_b):
        result = graph.mul(_aligned(a, of_a, made, sizes), _aligned(b, of_b, made, sizes))
    else:
        result = graph.contract(a, b, f"{of_a},{of_b}->{made}")
    return graph.reshape(result, [sizes[label] for label in of_result])


def _without_ones(x: Node, labels: str) -> tuple[Node, str]:
    """Returns an operand without its axes of size 1."""
    kept = "".join(label for label, size in zip(labels, x.shape, strict=True) if size != 1)
    return graph.reshape(x, [size for size in x.shape if size != 1]), kept


def _summed(x: Node, labels: str, others: str) -> tuple[Node, str]:
    """Returns an operand, summed over the labels that are its own alone."""
    sums = graph.total(x, [axis for axis, label in enumerate(labels) if label not in others])
    kept = [axis for axis, label in enumerate(labels) if label in others]
    return graph.reshape(sums, [x.shape[axis] for axis in kept]), "".join(labels[axis] for axis in kept)


def _aligned(x: Node, own: str, result: str, sizes: dict[str, int]) -> Node:
    """Returns an operand with the axes of the result, repeated along those it lacks."""
    order = [own.index(label) for label in result if label in own]
    shape = [sizes[label] if label in own else 1 for label in result]
    return graph.expand(graph.reshape(graph.permute(x, order), shape), [sizes[label] for label in result])


# ── matrix products ──────────────────────────────────────────────────────────────────────────────────


@rule("linear")
def linear(input: Node, weight: Node, bias: Node | None = None) -> Node:
    """Returns x (…, in) times weight (out, in), plus a bias (out,)."""
    leading = ascii_letters[2 : input.rank + 1]
    made = leading + "a" if weight.rank == 2 else leading
    result = product(input, weight, f"{leading}b,{'ab' if weight.rank == 2 else 'b'}->{made}")
    return result if bias is None else add(result, bias)


@rule("matmul", "Tensor.__matmul__", "mm", "bmm", "mv", "dot", "vdot", "linalg.matmul")
def matmul(a: Node, b: Node) -> Node:
    """Returns matrix products over the last two axes; an operand of one axis is a vector."""
    return product(a, b, _labels_of_matmul(a.rank, b.rank))


def _labels_of_matmul(rank_a: int, rank_b: int) -> str:
    """Returns the labels of a matrix product: "…ik,…kj->…ij"."""
    batch = ascii_letters[3 : 1 + max(rank_a, rank_b, 2)]
    of_a = batch[len(batch) - (rank_a - 2) :] if rank_a > 2 else ""
    of_b = batch[len(batch) - (rank_b - 2) :] if rank_b > 2 else ""
    rows, columns = "a" if rank_a > 1 else "", "b" if rank_b > 1 else ""
    return f"{of_a}{rows}c,{of_b}c{columns}->{batch}{rows}{columns}"


@rule("addmm", "baddbmm", "addmv")
def addmm(x: Node, a: Node, b: Node, *, beta: float = 1, alpha: float = 1) -> Node:
    """Returns beta · x + alpha · a @ b."""
    return add(mul(x, beta), matmul(a, b), alpha)


@rule("outer", "ger")
def outer(a: Node, b: Node) -> Node:
    """Returns the products of each two elements of two vectors."""
    return product(a, b, "a,b->ab")


@rule("inner")
def inner(a: Node, b: Node) -> Node:
    """Returns the products of two tensors, summed over the last axes."""
    if not a.rank or not b.rank:
        return mul(a, b)
    of_a, of_b = ascii_letters[1 : a.rank], ascii_letters[a.rank : a.rank + b.rank - 1]
    return product(a, b, f"{of_a}a,{of_b}a->{of_a}{of_b}")


@rule("tensordot")
def tensordot(a: Node, b: Node, dims: int | Sequence[Sequence[int]] = 2) -> Node:
    """Returns the products of two tensors, summed over some axes of each."""
    if isinstance(dims, int):
        dims = [range(a.rank - dims, a.rank), range(dims)]
    of_a = list(ascii_letters[: a.rank])
    of_b = list(ascii_letters[a.rank : a.rank + b.rank])
    for axis_a, axis_b in zip(*dims, strict=True):
        of_b[axis_b] = of_a[axis_a]
    result = [label for label in of_a if label not in of_b] + [label for label in of_b if label not in of_a]
    return product(a, b, f"{''.join(of_a)},{''.join(of_b)}->{''.join(result)}")


@rule("kron")
def kron(a: Node, b: Node) -> Node:
    """Returns the Kronecker product."""
    rank = max(a.rank, b.rank)
    a = graph.reshape(a, (1,) * (rank - a.rank) + a.shape)
    b = graph.reshape(b, (1,) * (rank - b.rank) + b.shape)
    of_a, of_b = ascii_letters[:rank], ascii_letters[rank : 2 * rank]
    made = "".join(first + second for first, second in zip(of_a, of_b, strict=True))
    apart = product(a, b, f"{of_a},{of_b}->{made}")
    return graph.reshape(apart, [n * m for n, m in zip(a.shape, b.shape, strict=True)])


@rule("bilinear")
def bilinear(input1: Node, input2: Node, weight: Node, bias: Node | None = None) -> Node:
    """Returns x1ᵀ W x2 for each matrix W of the weight (out, in1, in2), plus a bias (out,)."""
    leading = ascii_letters[3 : 2 + input1.rank]
    half = product(input1, weight, f"{leading}b,abc->{leading}ac")
    result = product(half, input2, f"{leading}ac,{leading}c->{leading}a")
    return result if bias is None else add(result, bias)


@rule("linalg.multi_dot", "chain_matmul")
def multi_dot(tensors: Sequence[Node], *more: Node) -> Node:
    """Returns the product of several matrices."""
    first, *others = (tensors, *more) if isinstance(tensors, Node) else tensors
    for other in others:
        first = matmul(first, other)
    return first


# ── einsum ───────────────────────────────────────────────────────────────────────────────────────────


@rule("einsum")
def einsum(equation: str, *operands: Any) -> Node:
    """Returns products with sums in the notation of einsum, also of several operands, one after the other."""
    check(isinstance(equation, str), "einsum with lists of numbers")
    if len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = tuple(operands[0])
    nodes = [as_node(operand) for operand in operands]
    labels, result = _einsum_labels(equation, [node.rank for node in nodes])
    first, of_first = nodes[0], labels[0]
    for i in range(1, len(nodes)):
        later = "".join(labels[i + 1 :]) + result
        kept = "".join(label for label in dict.fromkeys(of_first + labels[i]) if label in later)
        kept = result if i == len(nodes) - 1 else kept
        first, of_first = product(first, nodes[i], f"{of_first},{labels[i]}->{kept}"), kept
    return _summed_to(first, of_first, result)


def _summed_to(x: Node, labels: str, result: str) -> Node:
    """Returns x, summed over the labels that the result lacks, with the axes in its order."""
    kept, of_kept = _summed(x, labels, result)
    return graph.permute(kept, [of_kept.index(label) for label in result])


def _einsum_labels(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """Returns the labels of each operand and of the result, with letters in place of an ellipsis."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    operands = left.split(",")
    check(len(operands) == len(ranks), f"einsum of {len(ranks)} operands by '{equation}'")
    free = "".join(letter for letter in ascii_letters if letter not in equation)
    counts = [rank - len(own.replace("...", "")) for own, rank in zip(operands, ranks, strict=True)]
    most = max((n for n, own in zip(counts, operands, strict=True) if "..." in own), default=0)
    if not arrow:
        seen = Counter(left.replace("...", "").replace(",", ""))
        right = "..." * ("..." in left) + "".join(sorted(label for label, n in seen.items() if n == 1))
    filled = [
        own.replace("...", free[most - count : most]) for own, count in zip(operands, counts, strict=True)
    ]
    result = right.replace("...", free[:most])
    for own in (*filled, result):
        check(len(set(own)) == len(own), f"einsum that takes a diagonal: '{equation}'")
    return filled, result


@rule("trace")
def trace(x: Node) -> Node:
    """Returns the sum of a matrix's diagonal."""
    return _summed_to(diagonal(x), "a", "")


@rule("diagonal", "linalg.diagonal")
def diagonal(x: Node, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Node:
    """Returns the main diagonal of a square matrix."""
    check(
        x.rank == 2 and offset == 0 and x.shape[0] == x.shape[1], "a diagonal of other than square matrices"
    )
    n = x.shape[0]
    flat = graph.reshape(x, (n * n,))
    rows = graph.reshape(graph.pad(flat, 0, 0, n), (n, n + 1))  # one longer: the diagonal is a column
    return graph.reshape(graph.part(rows, 1, 0, 1), (n,))


@rule("diag")
def diag(x: Node, diagonal: int = 0) -> Node:
    """Returns the main diagonal of a matrix, or the matrix with a diagonal."""
    check(diagonal == 0, "a diagonal beside the main one")
    return diag_embed(x) if x.rank == 1 else main_diagonal(x)


@rule("diag_embed")
def diag_embed(x: Node) -> Node:
    """Returns matrices with these diagonals."""
    n = x.shape[-1]
    rows = graph.pad(graph.reshape(x, (*x.shape, 1)), x.rank, 0, n)
    flat = graph.reshape(rows, (*x.shape[:-1], n * (n + 1)))
    return graph.reshape(graph.part(flat, x.rank - 1, 0, n * n), (*x.shape[:-1], n, n))


main_diagonal = diagonal
