"""Functions of torch and of ours that are traced through their own Python code, function by function."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch.nn.functional as F

from mixcoder.backends.native.rules.rule_table import TRACED
from mixcoder.models.patch_convolutions import mix_over_patches, mix_tokens
from mixcoder.torch_private import without_override_check

Composition = Callable[..., Any]


def _traced(function: Callable[..., Any]) -> Composition:
    """Returns what traces the body of a function, which would else hand itself over to the tracer."""
    body = without_override_check(function)

    def compose(tracer: AbstractContextManager[object], *args: Any, **kwargs: Any) -> Any:
        with tracer:
            return body(*args, **kwargs)

    return compose


for _function in (F.multi_head_attention_forward, mix_tokens, mix_over_patches):
    TRACED[_function] = _traced(_function)
