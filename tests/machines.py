"""A few tests as other machines would run them, one set for each.

python -m tests.machines          all of them, as `make test-machines` does
python -m tests.machines umask    those whose name has the word
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from mixcoder.backends.build_cache import compiler_command

_STEPS = ("backends/native", "backends/test_threads.py", "backends/test_parameters.py")
_MODELS = ("models/test_article.py", "inference/test_latents_file.py", "export/test_onnx.py")
_RUNS = (
    "cli/test_train.py::test_run_then_reconstruct_then_load",
    "experiments/file/test_yaml_file.py",
    "io/test_atomic_file.py",
)


@dataclass(frozen=True)
class Machine:
    """Another machine.

    Attributes:
        tests: below `tests/`, those that may notice.
        variables: of the environment; None takes one away.
        command: what starts a process there.
        umask: for new files.
    """

    tests: Sequence[str]
    variables: dict[str, str | None] = field(default_factory=dict)
    command: Sequence[str] = ()
    umask: int = -1


def _instructions(mkl: str, onednn: str, aten: str, without: str) -> dict[str, str | None]:
    """The variables that hold the libraries of torch, and the compiler, to older instructions."""
    libraries = {"MKL_ENABLE_INSTRUCTIONS": mkl, "ONEDNN_MAX_CPU_ISA": onednn, "ATEN_CPU_CAPABILITY": aten}
    if platform.machine() not in ("x86_64", "AMD64"):
        return {**libraries}
    return {**libraries, "CXX": " ".join([*compiler_command(), f"-mno-{without}"])}


def machines(empty: Path) -> dict[str, Machine]:
    """All of them by name; `empty` is a folder."""
    no_compiler = {"PATH": str(empty), "CXX": None, "XDG_CACHE_HOME": str(empty / "cache")}
    c_locale: dict[str, str | None] = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    given = {
        "a processor of 2013 (AVX2)": Machine(
            (*_STEPS, *_MODELS), _instructions("AVX2", "AVX2", "avx2", "avx512f")
        ),
        "a processor of 2008 (SSE 4)": Machine(
            (*_STEPS, *_MODELS), _instructions("SSE4_2", "SSE41", "default", "avx")
        ),
        "no compiler": Machine(("backends/test_backend.py", *_RUNS), no_compiler),
        "no home": Machine(_RUNS, {"HOME": None, "XDG_CACHE_HOME": None}),
        "umask 077": Machine(_RUNS, umask=0o077),
        "the C locale": Machine((*_RUNS, "text/test_table.py"), c_locale),
    }
    if shutil.which("taskset"):
        given["one core"] = Machine((*_STEPS, *_RUNS), command=("taskset", "-c", "0"))
    return given


def run(machine: Machine) -> subprocess.CompletedProcess[str]:
    """Runs the tests of a machine."""
    variables = {**os.environ, **machine.variables}
    tests = [f"tests/{test}" for test in machine.tests]
    return subprocess.run(
        [*machine.command, sys.executable, "-m", "pytest", "-q", "-n", "0", "--no-header", *tests],
        env={name: value for name, value in variables.items() if value is not None},
        umask=machine.umask,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="backslashreplace",
        check=False,
    )


def main(words: Sequence[str]) -> int:
    """Runs all, or those with one of the words in their name, two at a time; 0 where all tests passed."""
    failed = []
    with tempfile.TemporaryDirectory() as empty, ThreadPoolExecutor(2) as pool:
        chosen = {
            name: machine
            for name, machine in machines(Path(empty)).items()
            if not words or any(word in name for word in words)
        }
        for name, done in zip(chosen, pool.map(run, chosen.values()), strict=True):
            *before, last = done.stdout.splitlines() or [""]
            print(f"{name}: {last}", flush=True)
            if done.returncode:
                print("\n".join(before), flush=True)
                failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
