"""Which emitter each kind of convolution has.

node of a convolution, or of a derivative ─▶ its kind (kinds.py) ─▶ emitter ─▶ operations of a program
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mixcoder.backends.native.convolutions import PatchConvolution, token_mixing
from mixcoder.backends.native.depthwise import DepthwiseConvolution
from mixcoder.backends.native.field_convolutions import FieldConvolution
from mixcoder.backends.native.graph import Node
from mixcoder.backends.native.kinds import ConvolutionEmitter, Depthwise, OverField, OverPatches, TokenMixing

_EMITTERS: Mapping[type, Callable[[Any], ConvolutionEmitter]] = {
    TokenMixing: token_mixing,
    OverPatches: PatchConvolution,
    Depthwise: DepthwiseConvolution,
    OverField: FieldConvolution,
}


def emitter_of(node: Node) -> ConvolutionEmitter:
    """Returns the emitter of a convolution, or of one of its derivatives."""
    kind = node.attributes[-1]
    return _EMITTERS[type(kind)](kind)
