"""Runs a model's own forward on symbols, tensors that know their node but no elements; gives its graph.

    model.forward(symbol) ─a function of torch─▶ its rule (rules/) ─▶ nodes ─▶ symbols

Parameters are leaves of the graph, however a model reaches and shares them. Other tensors, such as buffers,
frozen parameters and what forward makes itself, are constants. What no rule covers, no trace does: nothing is
guessed.
"""

from __future__ import annotations

import inspect
import random
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

from mixcoder.backends.fingerprint import python_state
from mixcoder.backends.native import graph
from mixcoder.backends.native.graph import Node
from mixcoder.backends.native.graph_equality import compute_the_same
from mixcoder.backends.native.image_axes import check_images_apart
from mixcoder.backends.native.rules import REFUSED, RULES, TRACED
from mixcoder.backends.native.rules.masks import Mask, masked
from mixcoder.backends.parameters import trained_parameters
from mixcoder.backends.self_check import as_unsupported
from mixcoder.backends.step import UnsupportedError
from mixcoder.torch_private import tensor_version, tree_leaves

_IGNORED = {
    *("dtype", "out", "device", "layout", "memory_format", "requires_grad", "non_blocking", "copy"),
    *("_stacklevel", "pin_memory", "generator", "inplace"),
}
"""Arguments that change nothing, as `_named` checks."""
_ORDINARY = (None, False, torch.float32, torch.strided, torch.device("cpu"), "cpu")
_SYNONYMS = {"axis": "dim", "keepdims": "keepdim"}
_VIEWS = tuple(operation for operation in graph.MOVEMENTS if operation != "like")
"""Operations whose result torch would keep in the memory of the input."""
_ODD_VIEWS = {"unfold": (*_VIEWS, "cat"), "diagonal": (*_VIEWS, "pad"), "__getitem__": (*_VIEWS, "pad")}
"""Functions whose results are views although a node moves the elements, and the operations of these."""


@dataclass(frozen=True)
class Trace:
    """The graph of a model's forward.

    Attributes:
        images: the leaf of the images (B, C, H, W) in [0, 1].
        outputs: the model's outputs (B, C, H, W).
        parameters: a leaf for each trained parameter, in the order of `FlatParameters`.
    """

    images: Node
    outputs: Node
    parameters: list[Node]


@dataclass(eq=False)
class _Memory:
    """What symbols share that torch would keep in one memory: a change of one would change the others.

    Attributes:
        symbols: that lie in it.
        is_leaf: whether it belongs to the images or a parameter.
    """

    symbols: list[weakref.ref[Symbol]] = field(default_factory=list)
    is_leaf: bool = False

    def is_shared(self) -> bool:
        """Returns whether more than one symbol, or a leaf, lies in it."""
        return self.is_leaf or sum(symbol() is not None for symbol in self.symbols) > 1


class Symbol(Tensor):
    """A tensor that stands for a node. Its own elements are not numbers, so that none is used by mistake.

    Attributes:
        node: what it stands for.
        memory: that it shares with symbols it was made from, or which were made from it, without a copy.
        is_condition: whether torch would have booleans.
    """

    node: Node
    memory: _Memory
    is_condition: bool = False


def trace(model: nn.Module, images_shape: Sequence[int]) -> Trace:
    """Returns the graph of a model's forward for images (B, C, H, W), in the mode that it is in.

    Forward is called twice: a graph is what it computes each time, and not what it computes at first.

    Raises:
        UnsupportedError: it contains what has no rule, or computes something else each time; says what.
    """
    parameters = list(trained_parameters(model).values())
    tracer, again = Tracer(parameters), Tracer(parameters)
    with as_unsupported(), _recording():
        traced = _traced(model, tracer, images_shape)
        repeated = _traced(model, again, images_shape)
        tracer.check_constants()
        leaves = dict(zip(traced.parameters, repeated.parameters, strict=True))
        leaves[traced.images] = repeated.images
        if not compute_the_same(traced.outputs, repeated.outputs, leaves):
            raise UnsupportedError("a forward that computes something else at the second call")
    if traced.outputs.shape != traced.images.shape:
        raise UnsupportedError(f"the outputs have shape {traced.outputs.shape}, not that of the images")
    check_images_apart(traced.images, traced.outputs)
    return traced


def _traced(model: nn.Module, tracer: Tracer, images_shape: Sequence[int]) -> Trace:
    """Returns what one call of a model's forward computes."""
    images = graph.images(images_shape)
    with _checking_changes(model):
        symbol = tracer.symbol(images, _Memory(is_leaf=True))
        with tracer:
            outputs = model(symbol)
        tracer.check_constants()
        return Trace(images, tracer.node_of(outputs), tracer.leaves)


class Tracer(TorchFunctionMode):
    """A mode in which functions of torch make nodes where a symbol or a parameter is among their arguments.

    Args:
        parameters: that become leaves.

    Attributes:
        leaves: the leaf of each parameter.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        super().__init__()
        self.leaves = [graph.parameter(parameter.shape, i) for i, parameter in enumerate(parameters)]
        leaves = zip(parameters, self.leaves, strict=True)
        self._leaves = {id(parameter): (leaf, _Memory(is_leaf=True)) for parameter, leaf in leaves}
        self._constants: dict[int, _Constant] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if not any(self._is_traced(tensor) for tensor in tensors):
            if kwargs.get("generator") is not None:
                raise UnsupportedError("forward draws random numbers")
            return func(*args, **kwargs)
        if func in TRACED and func not in RULES:
            return TRACED[func](self, *args, **kwargs)
        return self._apply(func, args, kwargs)

    def symbol(self, node: Node, memory: _Memory | None = None) -> Symbol:
        """Returns a symbol of a node."""
        elements = torch.full((), torch.nan).expand(node.shape)
        symbol: Symbol = elements.as_subclass(Symbol)
        symbol.requires_grad_()  # so that torch marks what an autograd.Function makes of it
        symbol.node = node
        symbol.memory = memory or _Memory()
        symbol.memory.symbols.append(weakref.ref(symbol))
        return symbol

    def node_of(self, tensor: Any) -> Node:
        """Returns the node of a symbol, a parameter or a constant.

        Raises:
            UnsupportedError: it has none.
        """
        if not isinstance(tensor, Tensor):
            raise UnsupportedError(f"forward returns {type(tensor).__name__}, not a tensor")
        if isinstance(tensor, Symbol):
            if not hasattr(tensor, "node") or not tensor.is_leaf:
                raise UnsupportedError("an autograd.Function, or an operation in another thread")
            return tensor.node
        if id(tensor) in self._leaves:
            return self._leaves[id(tensor)][0]
        return self._constant(tensor)

    def _is_traced(self, tensor: Tensor) -> bool:
        return isinstance(tensor, Symbol) or id(tensor) in self._leaves

    def _constant(self, tensor: Tensor) -> Node:
        if tensor.grad_fn is not None:
            raise UnsupportedError("a tensor that was computed from parameters before forward")
        if tensor.device.type != "cpu" or tensor.layout != torch.strided:
            raise UnsupportedError(f"a constant on {tensor.device}, {tensor.layout}")
        if id(tensor) not in self._constants:
            if bool(tensor.isnan().any()):
                raise UnsupportedError("a constant with elements that are not numbers")
            self._constants[id(tensor)] = _Constant(
                tensor, graph.constant(tensor.detach()), tensor_version(tensor)
            )
        return self._constants[id(tensor)].node

    def check_constants(self) -> None:
        """Checks that no constant changed after its first use: it is read where it lies.

        Raises:
            UnsupportedError: one did.
        """
        for constant in self._constants.values():
            if tensor_version(constant.tensor) != constant.version:
                raise UnsupportedError("forward changes a tensor that it has used")

    def _apply(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Returns what a function's rule makes, as symbols."""
        name = _name(function)
        if torch.is_autocast_enabled("cpu"):
            raise UnsupportedError(f"{name} within torch.autocast")
        short = name.rpartition(".")[2]
        is_in_place = kwargs.get("inplace") is True
        rule = RULES.get(function)
        if rule is None and short.endswith("_") and not short.endswith("__"):
            rule, is_in_place = RULES.get(getattr(Tensor, short[:-1], None)), True
        if rule is None:
            because = f": {REFUSED[function]}" if function in REFUSED else ""
            raise UnsupportedError(f"no rule for {name}{because}")
        nodes = _mapped((args, _named(kwargs, name)), self._argument)
        made = _call(rule, name, *nodes)
        if is_in_place:
            return self._changed(args[0], made, name)
        if not torch.is_grad_enabled():
            made = _mapped(made, _stopped)
        memories = [] if short == "clone" else [*self._memories((args, kwargs))]
        return _mapped(made, partial(self._result, memories, _ODD_VIEWS.get(short, _VIEWS)))

    def _argument(self, value: Any) -> Any:
        """Returns the node of a tensor of float32, and anything else as it is."""
        if isinstance(value, np.generic):
            return value.item()
        is_node = isinstance(value, Tensor) and (self._is_traced(value) or value.dtype == torch.float32)
        if not is_node:
            return value
        node = self.node_of(value)
        return Mask(node) if isinstance(value, Symbol) and value.is_condition else node

    def _result(self, memories: Sequence[tuple[Node, _Memory]], views: Collection[str], value: Any) -> Any:
        """Returns the symbol of a node or a condition, and anything else as it is."""
        if not isinstance(value, Node | Mask):
            return value
        node = value.node if isinstance(value, Mask) else value
        symbol = self.symbol(node, _memory_of(node, memories, views))
        symbol.is_condition = isinstance(value, Mask)
        return symbol

    def _memories(self, args: object) -> Iterator[tuple[Node, _Memory]]:
        """Yields node and memory of each symbol and parameter among arguments."""
        for tensor in tree_leaves(args):
            if isinstance(tensor, Symbol):
                yield tensor.node, tensor.memory
            elif id(tensor) in self._leaves:
                yield self._leaves[id(tensor)]

    def _changed(self, symbol: Any, made: Any, name: str) -> Symbol:
        """Returns the symbol, which from now on stands for another node.

        Raises:
            UnsupportedError: another symbol would change with it, or no symbol is to change.
        """
        if not isinstance(symbol, Symbol) or not isinstance(made, Node) or made.shape != symbol.node.shape:
            raise UnsupportedError(f"{name} writes into a tensor that is no result")
        if symbol.memory.is_shared():
            raise UnsupportedError(f"{name} changes a tensor in place of which there are views")
        if not torch.is_grad_enabled():  # gradients would pass by the change
            raise UnsupportedError(f"{name} changes a tensor in place within torch.no_grad")
        symbol.node = made
        return symbol


@dataclass(frozen=True)
class _Constant:
    """A constant, kept alive so that no other tensor gets its identity; and its version when it was used."""

    tensor: Tensor
    node: Node
    version: int


def _named(kwargs: dict[str, Any], name: str) -> dict[str, Any]:
    """Returns keyword arguments under torch's first names, without those that change nothing.

    Raises:
        UnsupportedError: one asks for another type, device or place of the result.
    """
    for key in _IGNORED & set(kwargs):
        value = kwargs[key]
        is_free = key in ("memory_format", "_stacklevel", "non_blocking", "copy", "inplace")
        if (not is_free or name.endswith("is_contiguous")) and (
            isinstance(value, Tensor) or value not in _ORDINARY
        ):
            shown = "a tensor" if isinstance(value, Tensor) else value
            raise UnsupportedError(f"{name} with {key}={shown}")
    return {_SYNONYMS.get(key, key): value for key, value in kwargs.items() if key not in _IGNORED}


def _call(rule: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Returns what a rule makes of these arguments.

    Raises:
        UnsupportedError: the rule lacks one of them.
    """
    known = _signature(rule).parameters
    if "input" in kwargs and "input" not in known:
        args, kwargs = (kwargs["input"], *args), {k: v for k, v in kwargs.items() if k != "input"}
    kwargs = {key: value for key, value in kwargs.items() if value is not None or key in known}
    try:
        _signature(rule).bind(*args, **kwargs)
    except TypeError as error:
        raise UnsupportedError(f"no rule for {name} with these arguments ({error})") from error
    try:
        has_masks = any(isinstance(value, Mask) for value in tree_leaves((args, kwargs)))
        return masked(rule, args, kwargs) if has_masks else rule(*args, **kwargs)
    except UnsupportedError as error:
        raise UnsupportedError(f"{name}: {error}") from error


@cache
def _signature(rule: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(rule)


@cache
def _name(function: Any) -> str:
    """Returns a function's name as a user writes it."""
    module = getattr(function, "__module__", None) or "torch"
    name = resolve_name(function) or f"{module}.{getattr(function, '__name__', repr(function))}"
    return name.removesuffix(".__get__")


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """Returns lists, tuples and dictionaries with each entry changed."""
    if isinstance(value, dict):
        return {key: _mapped(entry, change) for key, entry in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_mapped(entry, change) for entry in value)
    return change(value)


def _stopped(value: Any) -> Any:
    return graph.stop(value) if isinstance(value, Node) else value


def _memory_of(node: Node, memories: Sequence[tuple[Node, _Memory]], views: Collection[str]) -> _Memory:
    """Returns the memory of an argument of which a result is a view, or a new one.

    Movements of movements are made simpler, as a view of a view is: so both may be views of a third node.
    """
    viewed = _viewed(node, views)
    for source, memory in memories:
        if not viewed.isdisjoint(_viewed(source, views)):
            return memory
    return _Memory()


def _viewed(node: Node, views: Collection[str]) -> set[Node]:
    """Returns a node, and all that it is a view of."""
    found: set[Node] = set()
    below = [node]
    while below:
        reached = below.pop()
        if reached not in found:
            found.add(reached)
            below.extend(reached.inputs if reached.operation in views else ())
    return found


@contextmanager
def _recording() -> Iterator[None]:
    with torch.inference_mode(False), torch.enable_grad():
        yield


@contextmanager
def _checking_changes(model: nn.Module) -> Iterator[None]:
    """Context after which a model must be as before, and no random number drawn.

    Raises:
        UnsupportedError: it is not.
    """
    before, numbers, others = _state(model), torch.get_rng_state(), _random_states()
    try:
        yield
    finally:
        is_random = not torch.equal(torch.get_rng_state(), numbers) or _random_states() != others
        torch.set_rng_state(numbers)
    if is_random:
        raise UnsupportedError("forward draws random numbers")
    if _state(model) != before:
        raise UnsupportedError("the model changes itself as it computes")


def _random_states() -> tuple[object, ...]:
    """Returns the states of Python's and numpy's random numbers."""
    of_numpy = np.random.get_state(legacy=False)["state"]
    return random.getstate(), of_numpy["key"].tobytes(), of_numpy["pos"]


def _state(model: nn.Module) -> tuple[list[object], list[int]]:
    tensors = [*model.parameters(), *model.buffers()]
    return python_state(model), [tensor_version(tensor) for tensor in tensors]
