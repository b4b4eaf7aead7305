"""torch's private functions are there and do what `mixcoder.torch_private` says of them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mixcoder import torch_private
from mixcoder.torch_private import OpOverload, TorchDispatchMode, tree_leaves
from tests.conftest import needs_compiler, slow
from tests.documents import ROOT

PRIVATE = re.compile(r"\btorch\.(\w+\.)*_(?!_)\w+|\._cdata|_accumulate_grad_hooks")


def test_no_other_module_calls_them() -> None:
    for path in (ROOT / "src").rglob("*.py"):
        if path.name != "torch_private.py":
            assert not PRIVATE.findall(path.read_text(encoding="utf-8")), path


def test_torch_is_bounded_by_what_is_tested() -> None:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    [bound] = [re.search(r"<2\.(\d+)", entry) for entry in dependencies if entry.startswith("torch")]
    [pinned] = re.findall(r"^torch==2\.(\d+)", (ROOT / "constraints.txt").read_text(), re.M)
    assert bound is not None
    assert int(bound[1]) == int(pinned) + 1


def test_hooks_of_modules_and_parameters() -> None:
    layer = nn.Linear(2, 2)
    assert not torch_private.module_has_hooks(layer)
    assert not torch_private.gradient_has_hooks(layer.weight)
    assert not torch_private.has_hooks_after_gradient(layer.weight)
    layer.register_state_dict_pre_hook(lambda *_: None)  # type: ignore[no-untyped-call]  # computes nothing
    assert not torch_private.module_has_hooks(layer)
    for register in (
        layer.register_forward_hook,
        layer.register_forward_pre_hook,
        layer.register_full_backward_hook,
        layer.register_full_backward_pre_hook,
    ):
        handle = register(lambda *_: None)
        assert torch_private.module_has_hooks(layer)
        handle.remove()
        assert not torch_private.module_has_hooks(layer)
    layer.weight.register_hook(lambda gradient: gradient)  # type: ignore[no-untyped-call]
    assert torch_private.gradient_has_hooks(layer.weight)
    layer.bias.register_post_accumulate_grad_hook(lambda _: None)  # type: ignore[no-untyped-call]
    assert torch_private.has_hooks_after_gradient(layer.bias)


@pytest.mark.parametrize(
    "name",
    [
        *("register_module_forward_hook", "register_module_forward_pre_hook"),
        *("register_module_full_backward_hook", "register_module_full_backward_pre_hook"),
    ],
)
def test_hooks_of_the_process(name: str) -> None:
    assert not torch_private.process_has_hooks()
    handle = getattr(nn.modules.module, name)(lambda *_: None)
    try:
        assert torch_private.process_has_hooks()
    finally:
        handle.remove()


def test_buffers_also_empty_ones() -> None:
    layer = nn.Linear(2, 2)
    assert not torch_private.has_buffers(layer)
    layer.register_buffer("empty", None)
    assert torch_private.has_buffers(layer)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_storages_have_identities(device: str) -> None:
    one, other = (torch.zeros(4, device=device) for _ in range(2))
    identity = torch_private.storage_id
    assert identity(one.untyped_storage()) == identity(one[1:].untyped_storage())
    assert identity(one.untyped_storage()) != identity(other.untyped_storage())


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_the_blas_can_be_called(precision: torch.dtype) -> None:
    assert torch_private.blas_gemm(precision)


def test_fused_adamw_is_that_of_torch() -> None:
    parameter = nn.Parameter(torch.randn(40))
    optimizer = torch.optim.AdamW([parameter], 0.01, weight_decay=0.1)
    vector, count, moments = parameter.detach().clone(), torch.zeros(()), [torch.zeros(40), torch.zeros(40)]
    for _ in range(3):
        parameter.grad = torch.randn(40)
        count += 1
        tensors = [[vector], [parameter.grad], *([moment] for moment in moments)]
        torch_private.fused_adamw_(tensors, [count], optimizer.param_groups[0])
        optimizer.step()
    torch.testing.assert_close(vector, parameter.detach())


def test_every_operation_is_seen() -> None:
    class Noting(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            seen.append(func)
            return func(*args, **(kwargs or {}))

    seen: list[OpOverload] = []
    with Noting():  # type: ignore[no-untyped-call]
        torch.ones(2).add(1)
    assert torch.ops.aten.add.Tensor in seen
    assert all(isinstance(operation, OpOverload) for operation in seen)
    assert tree_leaves([1, (2, {"a": 3})]) == [1, 2, 3]


def test_versions_count_changes_in_place() -> None:
    x = torch.ones(3)
    before = torch_private.tensor_version(x)
    x[0] += 1
    assert torch_private.tensor_version(x) > before
    with torch.inference_mode():
        assert torch_private.tensor_version(torch.ones(3)) == 0


class _Refusing(TorchFunctionMode):
    """A mode in which one function fails."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func is not torch.nn.functional.normalize
        return func(*args, **(kwargs or {}))


def test_functions_without_their_check_are_overridden_by_none() -> None:
    body = torch_private.without_override_check(torch.nn.functional.normalize)
    x = torch.rand(2, 3)
    with _Refusing():
        with pytest.raises(AssertionError):
            torch.nn.functional.normalize(x)
        found = body(x, dim=1)
    torch.testing.assert_close(found, torch.nn.functional.normalize(x))


def test_weight_norm_calls_one_function() -> None:
    v, g = torch.rand(2, 3), torch.rand(2, 1)
    expected = v * g / v.norm(dim=1, keepdim=True)
    torch.testing.assert_close(torch_private.weight_norm_function()(v, g, 0), expected)


def test_fake_tensors_hold_nothing_and_know_mixed_precision() -> None:
    with torch_private.fake_tensors(), torch.autocast("cpu", torch.bfloat16):
        weight = torch.zeros(10**6, 10**6)
        assert (weight @ weight).dtype == torch.bfloat16


def doubled_twice(x: Tensor) -> tuple[Tensor, Tensor]:
    return x * 2, x * 2 + x.sum()


def test_traces_merge_equal_operations() -> None:
    graph = torch_private.trace(doubled_twice, [torch.ones(3)], {})
    assert graph.code.count("aten.mul") == 1
    inplace = torch_private.trace(lambda x: (x.mul_(2), x * 2, x * 2), [torch.ones(3)], {})
    assert inplace.code.count("aten.mul.Tensor") == 2


@slow
def test_traces_have_the_operations_of_gradients_for_any_batch() -> None:
    module = WithGradient()
    graph = torch_private.trace_with_gradients(module, torch.ones(2, 3))
    torch.testing.assert_close(graph(torch.full((5, 3), 2.0)), torch.full((5, 3), 12.0))


class WithGradient(nn.Module):
    """The derivative of x³."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            return torch.autograd.grad((leaf * leaf * leaf).sum(), leaf)[0]


@slow
@pytest.mark.xdist_group("compiling")
@needs_compiler
@pytest.mark.filterwarnings("ignore")  # of torch's own
def test_packages_are_written_and_loaded(tmp_path: Path) -> None:
    x = torch.arange(3.0)
    graph = torch_private.trace(doubled_twice, [x], {})
    torch_private.write_package(graph, [x], tmp_path / "x.pt2", {"cpp.threads": 1})
    torch_private.clear_compiler_caches()
    found = torch_private.load_package(tmp_path / "x.pt2")([x])
    torch.testing.assert_close(found, list(doubled_twice(x)))


def test_handles_of_tensors_are_given_back() -> None:
    x = torch.arange(3.0)
    [same] = torch_private.tensors_of(torch_private.handles_of([x]))
    assert same.data_ptr() == x.data_ptr()
