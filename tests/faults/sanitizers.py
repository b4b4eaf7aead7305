"""Compiles the kernels with sanitizers, and runs them over random networks; a report fails the command.

    python -m tests.faults.sanitizers [--networks 300] [--seed 0] [--only thread]

    address, undefined   memory outside of buffers, overflow, misaligned access
    ... without AVX      the same for the kernels' portable parts, compiled for any x86-64
    thread               shards that use memory at the same time, without a barrier between

Python is not compiled with them: its process loads the sanitizer's library first (LD_PRELOAD), and the
kernels are the code that is watched.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mixcoder.backends.build_cache import compiler_command
from mixcoder.backends.native import build
from mixcoder.backends.native.codes import cpp_header

ROOT = Path(__file__).parents[2]
KERNELS = Path(build.__file__).with_name("kernels")
_FLAGS = ["-std=c++17", "-O1", "-g", "-fno-omit-frame-pointer", "-ffp-contract=fast", "-fno-math-errno"]
_LIBRARY = ["-shared", "-fPIC", "-fno-sanitize-recover=all", "-Wno-psabi"]
_OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0",  # Python's own
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1",
}
_REPORT_LINES = 60


@dataclass(frozen=True)
class Sanitizer:
    """A way to compile the kernels.

    Attributes:
        flags: of the compiler.
        runtime: the library that a process loads first.
        least_shards: of a network: several where threads are watched.
        command: that starts Python.
    """

    flags: Sequence[str]
    runtime: str
    least_shards: int = 1
    command: Sequence[str] = ()


_ADDRESS = "-fsanitize=address,undefined"
_FIXED_ADDRESSES = ("setarch", platform.machine(), "-R")
"""Without the randomness of addresses, which the thread sanitizer does not always get along with."""
SANITIZERS = {
    "address": Sanitizer([_ADDRESS, "-march=native"], "libasan.so"),
    "thread": Sanitizer(["-fsanitize=thread", "-march=native"], "libtsan.so", 2, _FIXED_ADDRESSES),
}
if platform.machine() == "x86_64":
    SANITIZERS["address, without AVX"] = Sanitizer([_ADDRESS, "-march=x86-64"], "libasan.so")


def compile_kernels(kernels: Path, sanitizer: Sanitizer, folder: Path) -> Path:
    """Returns the library of the kernels in a folder, written to another."""
    (folder / "codes.h").write_text(cpp_header(), encoding="utf-8")
    path = folder / "kernels.so"
    command = [*compiler_command(), *_FLAGS, *_LIBRARY, *sanitizer.flags, f"-I{folder}"]
    subprocess.run([*command, "-o", str(path), *map(str, sorted(kernels.glob("*.cpp")))], check=True)
    return path


def find_runtime(name: str) -> str:
    """Returns the path of a sanitizer's library, as the compiler knows it; empty where it has none."""
    command = [*compiler_command(), f"-print-file-name={name}"]
    path = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return path if Path(path).is_absolute() else ""


def run_networks(kernels: Path, sanitizer: Sanitizer, networks: int, seed: int) -> tuple[bool, str]:
    """Returns whether networks ran without a report, and what was printed last."""
    with tempfile.TemporaryDirectory() as folder:
        library = compile_kernels(kernels, sanitizer, Path(folder))
        command = [*sanitizer.command, sys.executable, "-W", "ignore", "-m", "tests.faults.sanitized"]
        command += [str(library), "--networks", str(networks), "--seed", str(seed)]
        ended = subprocess.run(
            [*command, "--least-shards", str(sanitizer.least_shards)],
            env={**os.environ, **_OPTIONS, "LD_PRELOAD": find_runtime(sanitizer.runtime)},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    return not ended.returncode, ended.stdout


def show(name: str, is_clean: bool, printed: str) -> None:
    """Prints one line where all went well, and the report with its network where not."""
    lines = printed.splitlines()
    if is_clean:
        print(f"{name}: 0 reports; {lines[-1]}", flush=True)
        return
    numbers = [i for i, line in enumerate(lines) if line.startswith("network ")]
    differing = [line for line in lines if line.startswith("differs: ")]
    print(f"{name}: failed", *differing, *lines[numbers[-1] :][:_REPORT_LINES], sep="\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--networks", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=list(SANITIZERS), nargs="+", default=list(SANITIZERS))
    parser.add_argument("--kernels", type=Path, default=KERNELS, help="the folder of their source")
    options = parser.parse_args()
    missing = [name for name in options.only if not find_runtime(SANITIZERS[name].runtime)]
    if missing:
        raise SystemExit(f"the compiler has no sanitizer for {', '.join(missing)}; g++ 12 has, as CXX=g++")
    verdicts = []
    for name in options.only:
        is_clean, printed = run_networks(options.kernels, SANITIZERS[name], options.networks, options.seed)
        show(name, is_clean, printed)
        verdicts.append(is_clean)
    raise SystemExit(not all(verdicts))


if __name__ == "__main__":
    main()
