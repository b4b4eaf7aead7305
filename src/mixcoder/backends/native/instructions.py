"""Compiles a group of elementwise nodes to the instructions of `elementwise.h`.

    nodes ─▶ instructions on operands and values ─▶ results written where they belong ─▶ values in registers

An operand is read and written where it lies, if vectors can be loaded there; else it is moved into a register
first, or from one at the end. A product that only a sum needs is computed together with the sum, and a
function together with its derivative.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mixcoder.backends.native.codes import PAIRED_FUNCTIONS, PLAIN_FUNCTIONS
from mixcoder.backends.native.fusion import ALIASES, REDUCTIONS, Fused, Read, frame_of_input
from mixcoder.backends.native.graph import Node


@dataclass
class Instruction:
    """One instruction, for all blocks.

    Attributes:
        name: in codes.INSTRUCTIONS.
        inputs: at most three values: operands by their index, and registers, which come after them.
        outs: at most two values that it computes.
        target: the operand that `load` reads and `store` writes, or the result that `accumulate` adds to.
        function: index of a function.
        arguments: of the function, or factor and addend.
        is_reduced: whether its values have one element for each row or column of a block.
    """

    name: str
    inputs: tuple[int, ...] = ()
    outs: tuple[int, ...] = ()
    target: int = 0
    function: int = 0
    arguments: tuple[float, ...] = ()
    is_reduced: bool = False

    @property
    def operands_read(self) -> set[int]:
        """The values that it reads, and the operand that it loads."""
        return {*self.inputs, self.target} if self.name == "load" else {*self.inputs}


@dataclass(frozen=True)
class Access:
    """How instructions can use an operand where it lies.

    Attributes:
        uses: "full" where vectors of columns can be loaded or one element repeated, "columns" where the
            columns lie side by side, "reduced" where vectors of a reduced value can be loaded.
        overlapping: the operands that are read from the same memory.
    """

    uses: frozenset[str]
    overlapping: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Operands:
    """What a group reads and writes.

    Attributes:
        access: to each operand.
        reads: index of each operand that is read.
        writes: index of the operand of each result.
        totals: index of each result that is a sum over all blocks.
    """

    access: Sequence[Access]
    reads: Mapping[Read, int]
    writes: Mapping[Node, int]
    totals: Mapping[Node, int]


def compile_group(fused: Fused, operands: Operands) -> tuple[list[Instruction], list[bool]]:
    """Returns the instructions, and for each register whether it holds reduced values."""
    compiler = _Compiler(fused, operands)
    for node in fused.nodes:
        compiler.compile(node)
    instructions = _write_directly(compiler.instructions, operands.access)
    return instructions, _assign_registers(instructions, compiler.is_reduced, len(operands.access))


class _Compiler:
    """Compiles one node after the other, each result into a value of its own."""

    def __init__(self, fused: Fused, operands: Operands) -> None:
        self.instructions: list[Instruction] = []
        self.is_reduced: dict[int, bool] = {}  # of values that are no operands
        self._members, self._frames, self._operands = {*fused.nodes}, fused.frames, operands
        self._absorbed = _absorbed(fused)
        self._left_out = {*self._absorbed.values()}
        self._partners = _partners(fused)
        self._values: dict[Node | Read, int] = {}

    def compile(self, node: Node) -> None:
        """Appends the instructions for a node."""
        if node.operation in ALIASES or node in self._left_out or node in self._values:
            return
        if node in self._operands.totals:
            value, target = self._input(node, 0, "full"), self._operands.totals[node]
            self.instructions.append(Instruction("accumulate", (value,), target=target))
            return
        results = self._partners.get(node, (node,))
        is_reduced = bool(self._frames[node].reduced)
        instruction = self._computed(node)
        instruction.is_reduced = is_reduced and node.operation not in REDUCTIONS
        count = 2 if instruction.name == "both" else 1
        instruction.outs = tuple(self._new_value(is_reduced) for _ in range(count))
        self.instructions.append(instruction)
        used = instruction.outs[-len(results) :]  # of a derivative alone, the function's value is not used
        for result, value in zip(reversed(results), reversed(used), strict=True):
            self._values[result] = value
            if result in self._operands.writes:
                target = self._operands.writes[result]
                store = Instruction("store", (value,), target=target, is_reduced=is_reduced)
                self.instructions.append(store)

    def _computed(self, node: Node) -> Instruction:
        """Returns the instruction that computes a node, but for where its result goes."""
        absorbed = self._absorbed.get(node)
        match node.operation:
            case "add" if absorbed:
                return self._added(node, absorbed)
            case "add":
                return Instruction("add", self._inputs(node))
            case "mul":
                return Instruction("multiply", self._inputs(node))
            case "keep":
                return Instruction("keep", self._inputs(node))
            case "affine":
                return Instruction("affine", self._inputs(node), arguments=node.attributes)
            case "sum" if absorbed:
                return Instruction("dot", self._inputs(absorbed, "columns"))
            case "sum":
                return Instruction("sum", self._inputs(node, "columns"))
            case "maximum" if self._frames[node].reduced:
                return Instruction("largest", self._inputs(node, "columns"))
            case "maximum":  # along one element
                return Instruction("affine", self._inputs(node), arguments=(1.0, 0.0))
        return self._function(node)

    def _added(self, node: Node, absorbed: Node) -> Instruction:
        """Returns the sum of a product, which is not computed by itself, and another value."""
        other = self._inputs(node)[1 - node.inputs.index(absorbed)]
        if absorbed.operation == "mul":
            return Instruction("multiply_add", (*self._inputs(absorbed), other))
        inputs = (other, *self._inputs(absorbed))
        return Instruction("add_scaled", inputs, arguments=absorbed.attributes[:1])

    def _function(self, node: Node) -> Instruction:
        name, *arguments = node.attributes
        inputs = self._inputs(node)
        if (name, *arguments) == ("pow", 2):
            return Instruction("multiply", inputs * 2)
        if node in self._partners or name.endswith("'"):
            code, function = "both", PAIRED_FUNCTIONS.index(name.rstrip("'"))
        else:
            code, function = "value", (*PLAIN_FUNCTIONS, *PAIRED_FUNCTIONS).index(name)
        return Instruction(code, inputs, function=function, arguments=tuple(arguments))

    def _inputs(self, node: Node, use: str = "") -> tuple[int, ...]:
        """Returns the values of the inputs of a node, but for one that it absorbs."""
        use = use or ("reduced" if self._frames[node].reduced else "full")
        absorbed = self._absorbed.get(node)
        return tuple(
            -1 if read is absorbed else self._input(node, i, use) for i, read in enumerate(node.inputs)
        )

    def _input(self, node: Node, index: int, use: str) -> int:
        value = self._value(node, index, use)
        if use == "columns" and self.is_reduced.get(value):  # which a sum does not repeat
            whole = self._new_value(is_reduced=False)
            self.instructions.append(Instruction("affine", (value,), (whole,), arguments=(1.0, 0.0)))
            return whole
        return value

    def _value(self, node: Node, index: int, use: str) -> int:
        read = self._source(node, index)
        if read in self._values:
            return self._values[read]
        assert not isinstance(read, Node)
        operand = self._operands.reads[read]
        if use in self._operands.access[operand].uses:
            return operand
        is_reduced = bool(read[1].reduced)
        value = self._values[read] = self._new_value(is_reduced)
        load = Instruction("load", outs=(value,), target=operand, is_reduced=is_reduced)
        self.instructions.append(load)
        return value

    def _source(self, node: Node, index: int) -> Node | Read:
        """Returns the node of the group, or what the group reads, that is an input of a node."""
        read = node.inputs[index]
        while read in self._members and read.operation in ALIASES:
            node, index, read = read, 0, read.inputs[0]
        return read if read in self._members else (read, frame_of_input(node, index, self._frames))

    def _new_value(self, is_reduced: bool) -> int:
        value = len(self._operands.access) + len(self.is_reduced)
        self.is_reduced[value] = is_reduced
        return value


def _absorbed(fused: Fused) -> dict[Node, Node]:
    """Returns for sums the product that is computed together with each, as nothing else needs it."""
    uses = Counter(read for node in fused.nodes for read in node.inputs)
    absorbed: dict[Node, Node] = {}
    for node in fused.nodes:
        if node.operation not in ("add", "sum"):
            continue
        for read in reversed(node.inputs):
            is_product = read.operation == "mul" or (_is_scaling(read) and node.operation == "add")
            is_free = read in fused.nodes and read not in fused.outputs and uses[read] == 1
            is_summed_at_once = node.operation == "add" or fused.frames[node].reduced == fused.rows
            if is_product and is_free and is_summed_at_once and node not in absorbed:
                absorbed[node] = read
    return absorbed


def _is_scaling(node: Node) -> bool:
    return node.operation == "affine" and node.attributes[1] == 0.0


def _partners(fused: Fused) -> dict[Node, tuple[Node, Node]]:
    """Returns function and derivative for the nodes of both, where a group has both of the same input."""
    functions = {(node.inputs, *node.attributes): node for node in fused.nodes if node.operation == "unary"}
    partners: dict[Node, tuple[Node, Node]] = {}
    for (inputs, name, *arguments), node in functions.items():
        derivative = functions.get((inputs, f"{name}'", *arguments))
        if derivative is not None:
            partners[node] = partners[derivative] = node, derivative
    return partners


def _write_directly(instructions: list[Instruction], access: Sequence[Access]) -> list[Instruction]:
    """Returns the instructions that write results where they belong, without a store where that is possible.

    A result may lie where an input lies that is read later: then the store comes last.
    """
    direct: dict[int, int] = {}  # the operands that values are written to
    kept: list[Instruction] = []
    last: list[Instruction] = []
    for i, instruction in enumerate(instructions):
        if instruction.name != "store":
            kept.append(instruction)
            continue
        [value], target = instruction.inputs, instruction.target
        read_later = {read for later in instructions[i + 1 :] for read in later.operands_read}
        is_free = not read_later & access[target].overlapping
        use = "reduced" if instruction.is_reduced else "columns"
        if is_free and use in access[target].uses and value not in direct:
            direct[value] = target
        else:
            (kept if is_free else last).append(instruction)
    for instruction in (*kept, *last):
        instruction.inputs = tuple(direct.get(value, value) for value in instruction.inputs)
        instruction.outs = tuple(direct.get(value, value) for value in instruction.outs)
    return kept + last


def _assign_registers(
    instructions: Sequence[Instruction], is_reduced: Mapping[int, bool], first: int
) -> list[bool]:
    """Gives values registers, from the index `first` on; returns whether each holds reduced values."""
    last_use = {value: i for i, now in enumerate(instructions) for value in (*now.inputs, *now.outs)}
    free: defaultdict[bool, list[int]] = defaultdict(list)
    registers: list[bool] = []
    register_of: dict[int, int] = {value: value for value in range(first)}
    for i, now in enumerate(instructions):
        ended = {value for value in now.inputs if value >= first and last_use[value] == i}
        for value in sorted(ended):
            free[is_reduced[value]].append(register_of[value])
        for value in now.outs:
            if value not in register_of:
                kind = is_reduced[value]
                if not free[kind]:
                    free[kind].append(first + len(registers))
                    registers.append(kind)
                register_of[value] = free[kind].pop()
        for value in now.outs:
            if value >= first and last_use[value] == i:  # which nothing reads
                free[is_reduced[value]].append(register_of[value])
        now.inputs = tuple(register_of[value] for value in now.inputs)
        now.outs = tuple(register_of[value] for value in now.outs)
    return registers
