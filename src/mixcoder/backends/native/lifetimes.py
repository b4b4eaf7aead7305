"""Until which step the memory of each array is read."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

from mixcoder.backends.native.fusion import Fused
from mixcoder.backends.native.graph import Node
from mixcoder.backends.native.placement import is_leaf, root_of

_PINNED = {"pad"}
"""Operations whose memory holds zeros that are written but once: nothing else may be written there."""


class Lifetimes:
    """The steps that read each array; movements read what they move.

    Args:
        steps: in order.
        kept: nodes that are read after the last step.

    Attributes:
        position: of the present step.
    """

    def __init__(self, steps: Sequence[Node | Fused], kept: Iterable[Node]) -> None:
        self.position = 0
        self._reads: defaultdict[Node, list[float]] = defaultdict(list)
        self._position_of: dict[Node | Fused, int] = {}
        for position, step in enumerate(steps):
            self._position_of[step] = position
            for x in step.inputs:
                self._reads[root_of(x)].append(position)
        for node in kept:
            self._reads[root_of(node)].append(math.inf)

    def ends(self, node: Node) -> bool:
        """Returns whether the present step is the last to read a node's memory, which may be overwritten."""
        root = root_of(node)
        return _is_own(root) and max(self._reads[root], default=-1) <= self.position

    def is_free_for(self, step: Node, node: Node) -> bool:
        """Returns whether a later step alone will read a node's memory, which may be changed for it now."""
        others = [position for position in self._reads[node] if position != self._position_of[step]]
        return _is_own(node) and max(others, default=-1) < self.position


def _is_own(root: Node) -> bool:
    return not is_leaf(root) and root.operation not in _PINNED
