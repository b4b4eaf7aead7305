"""The base of Mixcoder's optimizers."""

from __future__ import annotations

import inspect

import torch


class LeanOptimizer(torch.optim.Optimizer):
    """An optimizer without torch's wrappers, which import its compiler at the first call: 2 s of a start."""

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)
    state_dict = inspect.unwrap(torch.optim.Optimizer.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.Optimizer.load_state_dict)
