"""Graphs of tensor operations as machine code, compiled once for all runs on this machine.

    graph ─▶ its text, its constants, this torch, this processor ─▶ key ─▶ <user's cache>/compiled/<key>.pt2
                                                                             └─ not there: compiled now

What is in the cache was made on this machine by this user, and is loaded without any tracing: a process
that finds its graph there starts at once, as do the runs of a sweep that share a model.
"""

from __future__ import annotations

import hashlib
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from platformdirs import user_cache_path
from torch import Tensor
from torch.fx import GraphModule

CompiledGraph = Callable[..., Sequence[Tensor]]
"""Takes the tensors that the graph takes, of the very shapes that it was compiled for."""


def compile_graph(graph: GraphModule, examples: Sequence[Tensor]) -> Path:
    """The package with the machine code of `graph`, compiled now where the cache has none.

    Args:
        graph: of torch's own operations alone, as `make_fx` gives it.
        examples: tensors such as it takes.

    Raises:
        Exception: whatever export and compiler raise.
    """
    path = user_cache_path("mixcoder") / "compiled" / f"{_key(graph, examples)}.pt2"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):  # workers that need the same graph wait for the first of them
        if not path.exists():
            _compile(graph, examples, path)
    return path


def load_graph(package: Path) -> CompiledGraph:
    """The graph of a package, ready to run.

    Raises:
        Exception: whatever the loader raises.
    """
    loaded: CompiledGraph = torch._inductor.aoti_load_package(str(package))
    return loaded


def _compile(graph: GraphModule, examples: Sequence[Tensor], path: Path) -> None:
    """Writes the package whole or not at all."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about itself
        package = Path(folder) / "graph.pt2"
        settings = {
            "cpp.vec_isa_ok": True,  # the processor was asked already; seven trial compilations were more
            "aot_inductor.precompile_headers": False,  # takes longer than it saves before the third graph
            "cpp.threads": torch.get_num_threads(),
        }
        exported = torch.export.export(graph, tuple(examples))
        torch._inductor.aoti_compile_and_package(
            exported, package_path=str(package), inductor_configs=settings
        )
        package.replace(path)


def _key(graph: GraphModule, examples: Sequence[Tensor]) -> str:
    """A name that is the same for what compiles to the same."""
    digest = hashlib.sha256(graph.code.encode())
    surroundings: list[Any] = [
        torch.__version__,
        torch.backends.cpu.get_cpu_capability(),
        torch.cpu.get_capabilities(),
        torch.get_num_threads(),
        [(str(it.dtype), str(it.device), tuple(it.shape), it.stride()) for it in examples],
    ]
    digest.update(repr(surroundings).encode())
    for name, constant in sorted(graph.state_dict().items()):
        digest.update(f"{name} {constant.dtype} {tuple(constant.shape)}".encode())
        digest.update(constant.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:20]
