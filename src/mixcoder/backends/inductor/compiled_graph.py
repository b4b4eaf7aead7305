"""Graphs of tensor operations as machine code, compiled once for all runs on this machine.

    source, a text that the graph follows from ─▶ key ─▶ <key>.traced in the build cache, which holds a key ─┐
                  └─ not there: traced now                                                                   ▼
    graph ─▶ its text, its constants ─▶ key ────────────────────────────────────▶ <key>.pt2 in the build cache
                                                                                    └─ not there: compiled now

A process that finds both loads neither tracer nor compiler and starts at once, as do the runs of a sweep that
share a model.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mixcoder.backends.build_cache import build_once, cache_key, find_built
from mixcoder.torch_private import clear_compiler_caches, load_package, write_package

if TYPE_CHECKING:
    from torch.fx import GraphModule

CompiledGraph = Callable[..., Sequence[Tensor]]
"""Takes tensors of the shapes that the graph was compiled for."""
_INDUCTOR_FOLDER = "TORCHINDUCTOR_CACHE_DIR"


def compile_once(source: str | None, trace: Callable[[], GraphModule], examples: Sequence[Tensor]) -> Path:
    """Returns the package of a graph's machine code, traced and compiled now where the cache has none.

    Args:
        source: all that the graph follows from, beside the examples; None where only the graph itself tells.
        trace: makes the graph, of torch's own operations alone.
        examples: tensors such as it takes.

    Raises:
        Exception: whatever tracer, export and compiler raise.
    """
    if source is None:
        graph = trace()
        return _compiled(graph, _graph_key(graph, examples), examples)
    source_key = cache_key("traced", source, _forms(examples))
    link = find_built(source_key, ".traced")
    package = find_built(link.read_text("ascii"), ".pt2") if link else None
    if package:
        return package
    graph = trace()
    key = _graph_key(graph, examples)
    package = _compiled(graph, key, examples)
    build_once(source_key, ".traced", partial(_write_text, key))
    return package


def load_graph(package: Path) -> CompiledGraph:
    """Returns the graph of a package, ready to run.

    Raises:
        Exception: whatever the loader raises.
    """
    graph = load_package(package)

    def run(*tensors: Tensor) -> Sequence[Tensor]:
        return graph(list(tensors))

    return run


def _compiled(graph: GraphModule, key: str, examples: Sequence[Tensor]) -> Path:
    """Returns the package of a graph, compiled now where the cache has none."""
    return build_once(key, ".pt2", partial(_compile, graph, examples))


def _compile(graph: GraphModule, examples: Sequence[Tensor], path: Path) -> None:
    """Writes the package to `path`."""
    settings = {
        "cpp.vec_isa_ok": True,  # torch's own test is seven trial compilations
        "aot_inductor.precompile_headers": False,  # takes longer than it saves before the third graph
        "cpp.threads": torch.get_num_threads(),
    }
    with warnings.catch_warnings(action="ignore"), _private_inductor():  # torch's own warnings
        write_package(graph, examples, path, settings)


@contextmanager
def _private_inductor() -> Iterator[None]:
    """Context in which Inductor works in a new folder, not in one of a fixed name that others may have made.

    The folder lies among the temporary files: Inductor's commands break at a space in its path, as in a
    user's name.
    """
    before = os.environ.get(_INDUCTOR_FOLDER)
    clear_compiler_caches()  # of files of the folder before
    try:
        with TemporaryDirectory(prefix="mixcoder-", ignore_cleanup_errors=True) as folder:
            os.environ[_INDUCTOR_FOLDER] = folder
            yield
    finally:
        clear_compiler_caches()
        if before is None:
            os.environ.pop(_INDUCTOR_FOLDER, None)
        else:
            os.environ[_INDUCTOR_FOLDER] = before


def _graph_key(graph: GraphModule, examples: Sequence[Tensor]) -> str:
    """Returns the key of a graph, its constants and the forms of its tensors."""
    constants = hashlib.sha256()
    for name, constant in sorted(graph.state_dict().items()):
        constants.update(f"{name} {constant.dtype} {tuple(constant.shape)}".encode())
        constants.update(constant.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return cache_key("graph", graph.code, constants.hexdigest(), _forms(examples))


def _forms(examples: Sequence[Tensor]) -> list[object]:
    """Returns what compiled code is specialized for: forms of tensors, threads and the GPU."""
    forms = [(str(t.dtype), str(t.device), tuple(t.shape), t.stride()) for t in examples]
    gpus = [str(torch.cuda.get_device_properties(t.device)) for t in examples if t.device.type == "cuda"]
    return [torch.get_num_threads(), *gpus, *forms]


def _write_text(text: str, path: Path) -> None:
    path.write_text(text, "ascii")
