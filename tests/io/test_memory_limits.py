"""The memory that machines, control groups and limits leave."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from mixcoder.io.memory_limits import control_group_limits
from tests.conftest import slow


def write(root: Path, **texts: str) -> None:
    """Files by their path, with a double underscore for each slash."""
    for name, text in texts.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_limits_of_a_group_and_of_those_above_it_count(tmp_path: Path) -> None:
    write(tmp_path, membership="0::/user/mine\n")
    groups = tmp_path / "groups"
    for folder, limit in (("", "max"), ("user", "3000000000"), ("user/mine", "2000000000"), ("other", "1")):
        (groups / folder).mkdir(parents=True, exist_ok=True)
        (groups / folder / "memory.max").write_text(limit + "\n")
    assert control_group_limits(tmp_path / "membership", groups) == [2_000_000_000, 3_000_000_000]


def test_groups_of_the_first_version(tmp_path: Path) -> None:
    write(tmp_path, membership="7:cpu,memory:/mine\n6:pids:/mine\n")
    groups = tmp_path / "groups"
    (groups / "memory" / "mine").mkdir(parents=True)
    (groups / "memory" / "mine" / "memory.limit_in_bytes").write_text("5000\n")
    assert control_group_limits(tmp_path / "membership", groups) == [5000]


def test_a_machine_without_groups_has_no_such_limit(tmp_path: Path) -> None:
    assert control_group_limits(tmp_path / "none", tmp_path) == []


@slow
def test_a_ulimit_is_a_limit() -> None:
    program = (
        "import resource, torch\n"
        "from mixcoder.io.memory_limits import available_memory\n"
        "free = available_memory(torch.device('cpu'))\n"
        "resource.setrlimit(resource.RLIMIT_AS, (3 * 10**9, 3 * 10**9))\n"
        "bound = available_memory(torch.device('cpu'))\n"
        "print(free.where != bound.where, bound.where, 10**8 < bound.bytes < 3 * 10**9)\n"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said == "True within ulimit -v True\n"
