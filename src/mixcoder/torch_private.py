"""torch's private functions that Mixcoder calls, each with its reason.

No other module reaches behind an underscore of torch. `tests/test_torch_private.py` checks each against the
pinned version; `pyproject.toml` bounds torch by the versions that were checked. What is slow to import is
imported where it is used.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.nn.modules import module as _all_modules
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

if TYPE_CHECKING:
    from torch.fx import GraphModule

# To count the operations and bytes of a computation: torch has no public way to see every operation.
__all__ = ["OpOverload", "TorchDispatchMode", "tree_leaves"]

_HOOKS_BESIDE_COMPUTATION = "state_dict"
"""In the names of a module's hooks that are called when weights are stored or loaded."""
_GLOBAL_HOOKS = ("forward_pre", "forward", "backward_pre", "backward")


# ── modules and tensors ──────────────────────────────────────────────────────────────────────────────


def module_has_hooks(module: nn.Module) -> bool:
    """Returns whether hooks are called before or after a module's forward or backward.

    A compiled or native step would skip them; torch has no public list of a module's hooks.
    """
    names = [name for name in vars(module) if name.endswith("_hooks")]
    return any(getattr(module, name) for name in names if _HOOKS_BESIDE_COMPUTATION not in name)


def gradient_has_hooks(parameter: Tensor) -> bool:
    """Returns whether hooks are called with a parameter's gradient, for the same reason."""
    return bool(parameter._backward_hooks)


def has_hooks_after_gradient(parameter: Tensor) -> bool:
    """Returns whether hooks are called once a gradient is accumulated, which only `backward` does."""
    return bool(parameter._post_accumulate_grad_hooks)


def process_has_hooks() -> bool:
    """Returns whether hooks are called before or after every module of this process."""
    return any(getattr(_all_modules, f"_global_{name}_hooks") for name in _GLOBAL_HOOKS)


def has_buffers(module: nn.Module) -> bool:
    """Returns whether a module has registered buffers, also empty ones, which `buffers()` leaves out."""
    return bool(module._buffers)


def storage_id(storage: torch.UntypedStorage) -> int:
    """Returns the address of a storage object: on the meta device, `data_ptr` is 0 for all."""
    return int(storage._cdata)


def tensor_version(tensor: Tensor) -> int:
    """Returns how often a tensor was changed in place; there is no other sign of it."""
    return 0 if tensor.is_inference() else tensor._version


def without_override_check(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function of Python in a form that no mode overrides; it does its work itself.

    Functions of torch hand themselves over to a `TorchFunctionMode` in their first lines; one that is made of
    functions, such as attention with several heads, can be traced through these instead.
    """
    checks = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")
    names = {**function.__globals__, **dict.fromkeys(checks, _is_overridden)}
    bare = FunctionType(function.__code__, names, function.__name__, function.__defaults__)
    bare.__kwdefaults__ = function.__kwdefaults__
    return bare


def _is_overridden(*_: object) -> bool:
    return False


def is_within_transform() -> bool:
    """Returns whether a function of `torch.func` is at work, within which autograd's own are not at hand."""
    return bool(torch._C._are_functorch_transforms_active())


def weight_norm_function() -> Callable[..., Tensor]:
    """Returns the function that torch's parametrization `weight_norm` calls, so that it can have a rule."""
    function: Callable[..., Tensor] = torch._weight_norm
    return function


# ── processor and libraries ──────────────────────────────────────────────────────────────────────────


def blas_gemm(precision: torch.dtype) -> Any:
    """Returns the gemm of the BLAS in torch's library, column-major with Fortran's arguments.

    Native steps call it without an interpreter in between.

    Raises:
        AttributeError: torch was built without it.
        OSError: torch's library is not where it was.
    """
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
    return library.sgemm_ if precision == torch.float32 else library.gemm_bf16bf16f32_


def fused_adamw_(
    tensors: Sequence[Sequence[Tensor]], counts: Sequence[Tensor], settings: Mapping[str, Any]
) -> None:
    """Updates parameters as torch's fused AdamW does, without its grouping of many tensors.

    Args:
        tensors: parameters, gradients, moving averages of gradients and of their squares.
        counts: () of the steps of each parameter, this one included.
        settings: a group of parameters of `torch.optim.AdamW`.
    """
    beta1, beta2 = settings["betas"]
    parameters, gradients, exp_avgs, exp_avg_sqs = map(list, tensors)
    torch._fused_adamw_(
        parameters,
        gradients,
        exp_avgs,
        exp_avg_sqs,
        [],
        list(counts),
        lr=settings["lr"],
        beta1=beta1,
        beta2=beta2,
        weight_decay=settings["weight_decay"],
        eps=settings["eps"],
        amsgrad=False,
        maximize=False,
    )


# ── compiler ─────────────────────────────────────────────────────────────────────────────────────────


def fake_tensors() -> AbstractContextManager[object]:
    """Context in which tensors hold no elements and mixed precision works, which the meta device lacks."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    return FakeTensorMode()


def trace(
    function: Callable[..., Any],
    examples: Sequence[Tensor],
    decompositions: Mapping[OpOverload, Callable[..., Tensor]],
) -> GraphModule:
    """Returns the graph of all operations of `function`: unlike `torch.export`, with those of backward.

    Equal operations are merged, unless some change their inputs.
    """
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.fx.passes.dialect.common.cse_pass import CSEPass

    graph = make_fx(function, decomposition_table=dict(decompositions))(*examples)
    operations = [node.target for node in graph.graph.nodes if isinstance(node.target, OpOverload)]
    if any(operation._schema.is_mutable for operation in operations):
        return graph
    random = {op.overloadpacket for op in operations if torch.Tag.nondeterministic_seeded in op.tags}
    merged = CSEPass(random)(graph)
    return merged.graph_module if merged else graph


def trace_with_gradients(module: nn.Module, example: Tensor) -> nn.Module:
    """Returns a module's operations, with those of gradients within its forward, for batches of any size.

    The exporter sees what is called, but not what autograd computes.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    return make_fx(module, tracing_mode="symbolic", _allow_non_fake_inputs=True)(example)


def write_package(
    graph: GraphModule, examples: Sequence[Tensor], path: Path, settings: Mapping[str, Any]
) -> None:
    """Compiles a graph ahead of time; `torch.compile` compiles when a graph is called, in every process."""
    exported = torch.export.export(graph, tuple(examples))
    torch._inductor.aoti_compile_and_package(
        exported, package_path=str(path), inductor_configs=dict(settings)
    )


def load_package(path: Path) -> Callable[[list[Tensor]], list[Tensor]]:
    """Loads a compiled graph; the public loader imports the compiler, 2 s of a start."""
    loader = torch._C._aoti.AOTIModelPackageLoader(str(path), "model", False, 1, -1)
    run: Callable[[list[Tensor]], list[Tensor]] = loader.run
    return run


def clear_compiler_caches() -> None:
    """Lets Inductor forget files of its folder, which a change of `TORCHINDUCTOR_CACHE_DIR` does not."""
    from torch._inductor.utils import clear_inductor_caches

    clear_inductor_caches()


def handles_of(tensors: Sequence[Tensor]) -> list[Any]:
    """Returns new handles of tensors, as capsules, for AOTInductor's C interface."""
    handles: list[Any] = torch._C._aoti.unsafe_alloc_void_ptrs_from_tensors(list(tensors))
    return handles


def tensors_of(handles: Sequence[Any]) -> list[Tensor]:
    """Returns the tensors of handles, which they then own."""
    tensors: list[Tensor] = torch._C._aoti.alloc_tensors_by_stealing_from_void_ptrs(list(handles))
    return tensors
