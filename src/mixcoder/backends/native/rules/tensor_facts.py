"""Rules of what a tensor says of itself: its shape, its type, where it lies."""

from __future__ import annotations

import torch

from mixcoder.backends.native.graph import Node
from mixcoder.backends.native.rules.rule_table import check, refuse, rule


@rule("shape")
def shape(x: Node) -> torch.Size:
    """Returns the shape."""
    return torch.Size(x.shape)


@rule("size")
def size(x: Node, dim: int | None = None) -> torch.Size | int:
    """Returns the shape, or the size of an axis."""
    return torch.Size(x.shape) if dim is None else x.shape[dim]


@rule("ndim", "dim", "ndimension")
def rank(x: Node) -> int:
    """Returns the number of axes."""
    return x.rank


@rule("numel", "nelement")
def count(x: Node) -> int:
    """Returns the number of elements."""
    return x.size


@rule("Tensor.__len__")
def length(x: Node) -> int:
    """Returns the size of the first axis."""
    return x.shape[0]


@rule("dtype")
def dtype(x: Node) -> torch.dtype:
    """Returns float32: nodes have no other."""
    return torch.float32


@rule("device")
def device(x: Node) -> torch.device:
    """Returns the processor."""
    return torch.device("cpu")


@rule("get_device")
def device_index(x: Node) -> int:
    """Returns -1, as torch does for the processor."""
    return -1


@rule("layout")
def layout(x: Node) -> torch.layout:
    """Returns the layout of ordinary tensors."""
    return torch.strided


@rule("is_floating_point", "is_cpu")
def yes(x: Node) -> bool:
    """Returns True."""
    return True


@rule("requires_grad")
def has_gradient(x: Node) -> bool:
    """Returns whether a gradient of x reaches a parameter."""
    seen, below = {x}, [x]
    while below:
        node = below.pop()
        if node.operation == "parameter":
            return True
        sources = {*node.inputs} - seen if node.is_trained and node.operation != "stop" else set()
        below.extend(sources)
        seen |= sources
    return False


@rule("is_contiguous")
def is_contiguous(x: Node) -> bool:
    """Returns True, for what is no view of other elements or of another order."""
    while x.operation in ("reshape", "stop"):
        x = x.inputs[0]
    check(x.operation not in ("permute", "slice", "expand"), "whether a view is contiguous")
    return True


refuse("native steps place elements in another order than torch", "stride")
refuse("native steps have no leaves of autograd", "is_leaf")


@rule("is_complex", "is_cuda", "is_sparse", "is_quantized", "is_nested", "is_meta", "is_mps", "is_inference")
def no(x: Node) -> bool:
    """Returns False."""
    return False


@rule("element_size", "itemsize")
def bytes_of_element(x: Node) -> int:
    """Returns the bytes of a float32."""
    return 4
