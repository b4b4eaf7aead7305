"""The trial of a package in another process: compiled code that crashes ends that process, not the run.

    package ─▶ its trial in the build cache ─┬▶ empty: the other process ran the package, this one may
                  └─ not there: tried now    └▶ a problem: the other process crashed

torch 2.11.0+cu130 with Python 3.12 crashes on an H200 as it loads any package, and no exception tells of it.
Packages for the CPU need no trial.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from mixcoder.backends.build_cache import build_once, cache_key
from mixcoder.errors import first_line
from mixcoder.text.sanitize import sanitize
from mixcoder.torch_private import load_package

_TRUSTED = {"cpu"}
"""Types of devices whose packages need no trial."""
_TIMEOUT = 300
"""Seconds of a trial: far more than importing torch, starting a GPU and one step take."""
_CRASHES = {"SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV"}
"""Signals that code brings upon itself: another trial would end in the same way."""
_LETTERS = 200
"""The most letters of another library's message in ours."""


def check_package(package: Path, examples: Sequence[Tensor]) -> None:
    """Checks that a process can load and run a package; tries it now where the build cache has no trial.

    Args:
        package: as `compile_once` makes it.
        examples: tensors such as its graph takes.

    Raises:
        RuntimeError: it cannot; says why.
    """
    if all(tensor.device.type in _TRUSTED for tensor in examples):
        return
    key = cache_key("trial", sys.version, package.name)  # whose name has the digest of its content
    problem = build_once(key, ".trial", partial(_try, package, examples)).read_text("utf-8")
    if problem:
        raise RuntimeError(problem)


def _try(package: Path, examples: Sequence[Tensor], path: Path) -> None:
    """Writes to `path` how a package crashes; nothing where it runs.

    Raises:
        RuntimeError: it failed otherwise, perhaps for want of memory; the next start tries again.
    """
    forms = [(str(t.dtype).removeprefix("torch."), str(t.device), t.shape, t.stride()) for t in examples]
    gpu = torch.accelerator.current_device_index() if torch.accelerator.is_available() else -1
    command = [sys.executable, "-P", "-m", __name__, str(package), json.dumps(forms), str(gpu)]
    nothing = subprocess.DEVNULL
    try:
        ended = subprocess.run(  # noqa: S603 - this module
            command, stdin=nothing, stdout=nothing, stderr=subprocess.PIPE, timeout=_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"a process that tried the compiled code took more than {_TIMEOUT} s") from None
    name = signal.Signals(-ended.returncode).name if ended.returncode < 0 else ""
    problem = _describe_end(name, ended.stderr.decode("utf-8", "replace")) if ended.returncode else ""
    if problem and name not in _CRASHES:
        raise RuntimeError(problem)
    path.write_text(problem, "utf-8")


def _describe_end(signal_name: str, errors: str) -> str:
    """Returns how a trial failed, with the last line of its errors."""
    end = f"was killed by {signal_name}" if signal_name else "failed"
    last = errors.strip().rpartition("\n")[2].strip()
    reason = f": {sanitize(last, _LETTERS)}" if last else ""
    return f"a process that tried the compiled code {end}{reason}"


def _run(package: str, forms: str, gpu: str) -> None:
    """Runs a package on zeros, as a process of its own, which says on one line of stderr why it cannot."""
    try:
        torch.accelerator.set_device_index(int(gpu))  # as in the run; -1 sets none
        zeros = [
            torch.empty_strided(shape, stride, dtype=getattr(torch, dtype), device=device).zero_()
            for dtype, device, shape, stride in json.loads(forms)
        ]
        for output in load_package(Path(package))(zeros):
            output.cpu()  # waits for the GPU, whose errors come late
    except Exception as error:
        sys.exit(first_line(error))


if __name__ == "__main__":
    _run(*sys.argv[1:])
