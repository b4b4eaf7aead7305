"""Graphs of tensor operations as machine code, compiled once for all runs on this machine.

    what is computed, as a text ─▶ <user's cache>/compiled/<digest>.traced, a link ──────┐
                  └─ not there: traced now                                                 ▼
    graph ─▶ its text, its constants, this torch, this processor ─▶ <user's cache>/compiled/<digest>.pt2
                                                                       └─ not there: compiled now

What is in the cache was made on this machine by this user. A process that finds its link there loads neither
tracer nor compiler and starts at once, as do the runs of a sweep that share a model.
"""

from __future__ import annotations

import hashlib
import tempfile
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mixcoder.training.machine_code import compiled_folder, made_once

if TYPE_CHECKING:
    from torch.fx import GraphModule

CompiledGraph = Callable[..., Sequence[Tensor]]
"""Takes the tensors that the graph takes, of the very shapes that it was compiled for."""


def compiled_once(told: str | None, trace: Callable[[], GraphModule], examples: Sequence[Tensor]) -> Path:
    """The package with the machine code of a graph, traced and compiled now where the cache has none.

    Args:
        told: all that the graph follows from, beside the examples; None where only the graph itself tells.
        trace: makes the graph, of torch's own operations alone.
        examples: tensors such as it takes.

    Raises:
        Exception: whatever tracer, export and compiler raise.
    """
    if told is None:
        return compile_graph(trace(), examples)
    link = compiled_folder() / f"{_digest(told, examples)}.traced"
    if link.exists():
        return link.resolve()
    package = compile_graph(trace(), examples)
    with tempfile.TemporaryDirectory(dir=link.parent) as folder:
        new = Path(folder) / link.name
        new.symlink_to(package)
        new.replace(link)
    return package


def compile_graph(graph: GraphModule, examples: Sequence[Tensor]) -> Path:
    """The package with the machine code of `graph`, compiled now where the cache has none.

    Args:
        graph: of torch's own operations alone, as `make_fx` gives it.
        examples: tensors such as it takes.

    Raises:
        Exception: whatever export and compiler raise.
    """
    return made_once(f"{_digest(_text(graph), examples)}.pt2", partial(_compile, graph, examples))


def load_graph(package: Path) -> CompiledGraph:
    """The graph of a package, ready to run.

    Raises:
        Exception: whatever the loader raises.
    """
    loader = torch._C._aoti.AOTIModelPackageLoader(str(package), "model", False, 1, -1)

    def run(*tensors: Tensor) -> Sequence[Tensor]:
        return loader.run(list(tensors))

    return run


def _compile(graph: GraphModule, examples: Sequence[Tensor], path: Path) -> None:
    """Writes the package."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about itself
        settings = {
            "cpp.vec_isa_ok": True,  # the processor was asked already; seven trial compilations were more
            "aot_inductor.precompile_headers": False,  # takes longer than it saves before the third graph
            "cpp.threads": torch.get_num_threads(),
        }
        exported = torch.export.export(graph, tuple(examples))
        torch._inductor.aoti_compile_and_package(exported, package_path=str(path), inductor_configs=settings)


def _digest(text: str, examples: Sequence[Tensor]) -> str:
    """A name that is the same for what compiles to the same, of what the text says and for such tensors."""
    surroundings: list[Any] = [
        torch.__version__,
        torch.backends.cpu.get_cpu_capability(),
        torch.cpu.get_capabilities(),
        torch.get_num_threads(),
        [(str(it.dtype), str(it.device), tuple(it.shape), it.stride()) for it in examples],
    ]
    return hashlib.sha256(f"{surroundings} {text}".encode()).hexdigest()[:20]


def _text(graph: GraphModule) -> str:
    """All that a graph computes."""
    constants = hashlib.sha256()
    for name, constant in sorted(graph.state_dict().items()):
        constants.update(f"{name} {constant.dtype} {tuple(constant.shape)}".encode())
        constants.update(constant.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return f"{graph.code} {constants.hexdigest()}"
