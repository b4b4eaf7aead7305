"""The kernels run without a report of a sanitizer; with a fault put into a copy of them, there is one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mixcoder.backends.build_cache import compiler_command
from tests.conftest import needs_compiler, slow
from tests.faults import sanitizers

ROOT = Path(__file__).parents[2]


def has_sanitizers() -> bool:
    """Whether the compiler has all of them."""
    found = shutil.which(compiler_command()[0])
    return bool(found) and all(sanitizers.find_runtime(s.runtime) for s in sanitizers.SANITIZERS.values())


pytestmark = [slow, needs_compiler, pytest.mark.skipif(not has_sanitizers(), reason="needs sanitizers")]

FAULTS = {
    "beyond the end": (
        "address",
        "for (int i = 0; i < count; ++i) {\n        const float g",
        "for (int i = 0; i <= count; ++i) {\n        const float g",
        "heap-buffer-overflow",
    ),
    "overflow": (
        "address",
        "const WithoutDenormals fast{};",
        "const WithoutDenormals fast{}; volatile int most = 0x7fffffff; most = most + count;",
        "signed integer overflow",
    ),
    "no barrier": (
        "thread",
        "case BARRIER:",
        "case BARRIER: if (count) break;",
        "data race",
    ),
}
"""A sanitizer, a text of the kernels, what takes its place, and what is reported."""


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.faults.sanitizers", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", list(sanitizers.SANITIZERS))
def test_the_kernels_are_clean(name: str) -> None:
    """`make sanitize` runs more networks."""
    ended = run("--networks", 15, "--only", name)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.startswith(f"{name}: 0 reports; ")


@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_fault_is_reported(fault: str, tmp_path: Path) -> None:
    name, right, wrong, report = FAULTS[fault]
    kernels = tmp_path / "kernels"
    shutil.copytree(sanitizers.KERNELS, kernels)
    [source] = [path for path in kernels.iterdir() if right in path.read_text("utf-8")]
    source.write_text(source.read_text("utf-8").replace(right, wrong), "utf-8")
    ended = run("--networks", 40, "--only", name, "--kernels", kernels)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert report in ended.stdout
