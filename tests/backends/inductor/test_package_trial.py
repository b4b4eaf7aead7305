"""A package that crashes ends the process that tries it; the run takes eager steps and says why."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
from torch import Tensor

from mixcoder.backends.backend import BackendChoice, build_step
from mixcoder.backends.build_cache import compiler_command
from mixcoder.backends.inductor import inductor_backend, package_trial
from mixcoder.backends.inductor.package_trial import check_package
from mixcoder.backends.inductor.step_graph import compile_step
from mixcoder.backends.step import StepSpec
from tests.backends.test_backend import COMPILED, cache, compiling, foreign, images, spec
from tests.conftest import needs_compiler, slow
from tests.documents import assert_shown, faq_sentences

__all__ = ["cache"]

TRUSTED = package_trial._TRUSTED
KILLED = "a process that tried the compiled code was killed by SIGSEGV"
CRASH = "#include <csignal>\n__attribute__((constructor)) static void crash() { raise(SIGSEGV); }\n"


@pytest.fixture
def trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where trials are kept; the CPU stands for a GPU, of which nothing is known."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "trials"))
    monkeypatch.setattr(package_trial, "_TRUSTED", {})
    return tmp_path / "trials" / "mixcoder" / "compiled"


@pytest.fixture
def good(cache: Path, trials: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that runs, compiled once for all tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache.parents[1]))
    package = compile_step(spec(foreign(), images()), images())
    monkeypatch.setenv("XDG_CACHE_HOME", str(trials.parents[1]))
    return package


@pytest.fixture
def crashing(good: Path, tmp_path: Path) -> Path:
    """The same, but its library raises SIGSEGV as it is loaded."""
    source, library, path = (tmp_path / name for name in ("crash.cpp", "crash.so", "crash.pt2"))
    source.write_text(CRASH)
    subprocess.run([*compiler_command(), "-shared", "-fPIC", "-o", library, source], check=True)
    with ZipFile(good) as old, ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, library.read_bytes() if name.endswith(".so") else old.read(name))
    return path


def refuse_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, a process that is started is a failure of the test."""

    def refuse(*arguments: object, **settings: object) -> None:
        pytest.fail("a process was started")  # unlike an Exception, no reason for eager steps

    monkeypatch.setattr(subprocess, "Popen", refuse)


def build_from(package: Path, monkeypatch: pytest.MonkeyPatch) -> BackendChoice:
    """How steps turn out, whose graph is compiled to this package."""

    def compile_to_it(of: StepSpec, images: Tensor) -> Path:
        return package

    monkeypatch.setattr(inductor_backend, "compile_step", compile_to_it)
    step, built = build_step(spec(foreign(), images()), COMPILED)
    assert step(images()).isfinite()
    return built


@compiling
@needs_compiler
def test_a_package_that_runs_is_tried_once(good: Path, trials: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert build_from(good, monkeypatch) == COMPILED
    [trial] = trials.glob("*.trial")
    assert trial.read_bytes() == b""
    refuse_processes(monkeypatch)
    assert build_from(good, monkeypatch) == COMPILED


@compiling
@needs_compiler
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_where_it_crashes_steps_are_eager_and_it_is_not_tried_again(
    crashing: Path, trials: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = build_from(crashing, monkeypatch)
    assert str(built) == f"eager steps, products in float32 (they could not be compiled: {KILLED})"
    assert_shown(faq_sentences()["Compiled code crashes on the GPU"], str(built))
    refuse_processes(monkeypatch)
    assert str(build_from(crashing, monkeypatch)) == str(built)
    assert len(list(trials.glob("*.trial"))) == 1


def test_another_failure_is_told_and_tried_again(trials: Path, tmp_path: Path) -> None:
    """Memory that is missing now may be there at the next start."""
    path = tmp_path / "x.pt2"
    path.write_text("no package")
    with pytest.raises(RuntimeError, match=r"^a process that tried the compiled code failed: \w.*\Z"):
        check_package(path, [images()])
    assert not list(trials.glob("*.trial"))


def test_a_trial_has_an_end(trials: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package_trial, "_TIMEOUT", 0.01)
    with pytest.raises(RuntimeError, match=r"^a process that tried the compiled code took more than 0.01 s$"):
        check_package(tmp_path / "x.pt2", [images()])
    assert not list(trials.glob("*.trial"))


@compiling
@needs_compiler
def test_the_cpu_needs_no_trial(good: Path, trials: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package_trial, "_TRUSTED", TRUSTED)
    refuse_processes(monkeypatch)
    assert build_from(good, monkeypatch) == COMPILED
    assert not trials.exists()


@slow
@compiling
@needs_compiler
def test_the_process_runs_the_package_on_zeros_and_imports_little_but_torch(
    good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = []

    def note(command: list[str], **settings: object) -> subprocess.CompletedProcess[bytes]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 0, b"", b"")

    of = spec(foreign(), images())
    monkeypatch.setattr(subprocess, "run", note)
    check_package(good, [of.parameters.vector.detach(), of.images])
    monkeypatch.undo()
    code = f"""
import sys
from mixcoder.backends.inductor import package_trial
load = package_trial.load_package
def load_and_tell(path):
    graph = load(path)
    def run(tensors):
        print([(str(t.dtype), list(t.shape), t.count_nonzero().item()) for t in tensors])
        outputs = graph(tensors)
        print([list(t.shape) for t in outputs])
        return outputs
    return run
package_trial.load_package = load_and_tell
package_trial._run(*{commands[-1][-3:]!r})
print(sorted({{"mixcoder.models", "pydantic", "torch._dynamo", "torch._inductor"}} & {{*sys.modules}}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    size = len(of.parameters.vector)
    zeros = [("torch.float32", [size], 0), ("torch.uint8", [8, 1, 4, 6], 0)]
    assert done.stdout == f"{zeros}\n{[[size], []]}\n[]\n"
