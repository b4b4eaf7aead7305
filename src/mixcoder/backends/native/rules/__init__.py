"""The rules: how each function of torch becomes nodes of a graph. `RULES` has all of them."""

from importlib import import_module

from mixcoder.backends.native.rules.rule_table import (
    REFUSED,
    RULES,
    TRACED,
    native_functions,
    rule,
    rules_markdown,
)

__all__ = ["REFUSED", "RULES", "TRACED", "native_functions", "rule", "rules_markdown"]

_MODULES = (
    "arithmetic",
    "attention",
    "compositions",
    "elementwise_functions",
    "indexing",
    "masks",
    "matrix_products",
    "mixing_convolutions",
    "normalisation",
    "pooling",
    "shapes",
    "small_convolutions",
    "sums",
    "tensor_facts",
)
for _module in _MODULES:
    import_module(f"{__name__}.{_module}")  # which registers its rules
