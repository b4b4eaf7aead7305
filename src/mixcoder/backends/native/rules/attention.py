"""Rules of attention."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from mixcoder.backends.native.graph import Node
from mixcoder.backends.native.rules.arithmetic import add, choose, mul
from mixcoder.backends.native.rules.matrix_products import matmul
from mixcoder.backends.native.rules.rule_table import check, rule, settings_of
from mixcoder.backends.native.rules.shapes import transpose
from mixcoder.backends.native.rules.sums import softmax

_DEFAULTS = {"attn_mask": None, "dropout_p": 0.0, "is_causal": False, "scale": None, "enable_gqa": False}


@rule("scaled_dot_product_attention")
def attend(query: Node, key: Node, value: Node, *given: Any, **named: Any) -> Node:
    """Returns softmax(query · keyᵀ · scale + mask) · value, over the last two axes."""
    settings = settings_of(_DEFAULTS, given, named)
    check(settings["dropout_p"] == 0, "attention with dropout, whose numbers are random")
    check(not settings["enable_gqa"], "attention with enable_gqa")
    scale = 1 / math.sqrt(query.shape[-1]) if settings["scale"] is None else settings["scale"]
    scores = matmul(mul(query, scale), transpose(key, -2, -1))
    return matmul(softmax(_masked(scores, settings["attn_mask"], settings["is_causal"]), -1), value)


def _masked(scores: Node, attn_mask: Node | Tensor | None, is_causal: bool) -> Node:
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if isinstance(attn_mask, Tensor):
        check(attn_mask.dtype == torch.bool, f"a mask of {attn_mask.dtype}")
        return choose(attn_mask, scores, -math.inf)
    return scores if attn_mask is None else add(scores, attn_mask)
