"""The path of a new user: from an empty folder and the built wheel to ONNX files, as the README writes it.

    python -m tests.new_user            installs everything into a new environment; takes minutes
    pytest tests/test_new_user.py       borrows the packages of the environment that runs the tests, and does
                                        the shortest path alone: each command is a process that loads torch

wheel ─▶ environment ─▶ every command of the README in an empty folder ─▶ a program without Mixcoder
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]


def build_wheel(folder: Path) -> Path:
    """Builds the wheel of this checkout."""
    run_alone(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT], folder.parent
    )
    [wheel] = folder.glob("*.whl")
    return wheel


def borrowed_environment(folder: Path, wheel: Path) -> Path:
    """An environment with the wheel, and the packages of this one but for its Mixcoder; its programs."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    run_alone(
        [sys.executable, "-m", "pip", "--python", folder / "bin/python", "install", "--no-deps", wheel],
        folder,
    )
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "bin"


def fresh_environment(folder: Path, wheel: Path) -> Path:
    """An environment with the wheel and what it needs, from the package registry; its programs."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    run_alone([folder / "bin/pip", "install", "-c", ROOT / "constraints.txt", f"{wheel}[onnx]"], folder)
    return folder / "bin"


def readme_commands() -> list[str]:
    """Every `mixcoder` command of the README, in its order."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, flags=re.S | re.M)
    return [line for block in blocks for line in block.splitlines() if line.startswith("mixcoder ")]


def follow_readme(programs: Path, folder: Path, commands: Sequence[str]) -> None:
    """Does what the README says, in an empty folder, with nothing but the programs of an environment.

    Args:
        programs: the environment's folder of them.
        folder: an empty one.
        commands: of the README; the last of those that write files is `export`.
    """
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    [experiment] = re.findall(r"^```yaml\n(.*?)^```$", text, flags=re.S | re.M)
    (folder / "mine.yml").write_text(experiment, encoding="utf-8")
    for command in commands:
        line = f"{shlex.quote(str(programs))}/{command}"
        start = time.perf_counter()
        run_alone(["bash", "-c", line], folder)
        print(f"{time.perf_counter() - start:6.1f} s  {command}", flush=True)
    page = (ROOT / "docs" / "using-a-model.md").read_text(encoding="utf-8")
    program = re.findall(r"^```python\n(.*?)^```$", page, flags=re.S | re.M)[-1]
    assert "mixcoder" not in program
    (folder / "bare.py").write_text(program, encoding="utf-8")
    print(run_alone([programs / "python", "bare.py"], folder).strip())


def _seconds(programs: Path, command: str, folder: Path) -> float:
    """How long a command takes, the median of five, once its files are in the machine's memory."""
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        run_alone(["bash", "-c", f"{shlex.quote(str(programs))}/{command}"], folder)
        seconds.append(time.perf_counter() - start)
    return median(seconds[1:])


def run_alone(command: Sequence[str | Path], folder: Path) -> str:
    """The output of a command that ends well; nothing of this process's environment reaches it."""
    kept = {key: os.environ[key] for key in ("HOME", "LANG", "XDG_CACHE_HOME") if key in os.environ}
    path = os.pathsep.join((str(Path(sys.executable).parent), os.defpath))
    environment = {**kept, "PATH": path, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2")}
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"{command}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for sub in ("dist", "environment", "empty"):
            (folder / sub).mkdir()
        wheel = build_wheel(folder / "dist")
        start = time.perf_counter()
        programs = fresh_environment(folder / "environment", wheel)
        print(
            f"{wheel.name}: {wheel.stat().st_size:,} bytes; installed in {time.perf_counter() - start:.0f} s"
        )
        for command in ("python -c 'import mixcoder'", "mixcoder --help"):
            print(f"{_seconds(programs, command, folder):6.2f} s  {command}")
        follow_readme(programs, folder / "empty", readme_commands())


if __name__ == "__main__":
    main()
