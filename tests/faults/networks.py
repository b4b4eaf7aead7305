"""Draws networks by the thousand, and compares their native steps with eager ones in double precision.

    python -m tests.faults.networks [--networks 1000] [--seed 0]   again after an interruption: goes on
    python -m tests.faults.networks --networks 10_000 --show       the figures so far
    python -m tests.faults.networks --repeat FILE                  a kept network once more

Architecture, batch, shards, loss, optimizer and precision of each follow from a seed. Loss, gradients and the
weights after five steps are compared. A network that the native backend refuses is counted apart, by what it
says. One that differs is made as small as it can be while it still differs, and kept for `--repeat`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import torch

from mixcoder.text.sanitize import sanitize
from tests.faults.kept_state import KEPT, read_state, until_interrupted, write_state
from tests.faults.network_check import RefusedError, check_network, describe_network
from tests.faults.random_networks import Case, draw

ROUND = 100
"""Networks that one process compares; then the figures are kept, and the next process begins."""
_SECONDS_TO_END = 60
"""After which a process is killed that is stuck in a network."""
_SAME, _ANOTHER = 10, 11
"""How the process of an attempt ends, where the network does not end it."""
_DIED = "its"
"""What the problem of a network begins with that ended its process."""
_SIMPLER: dict[str, Any] = {
    "shards": 1,
    "batch_size": 1,
    "precision": "float32",
    "loss": "mse",
    "optimizer": "sgd",
    "weight_decay": None,
    "vector_learning_rate": None,
    "clip_norm": None,
    "ema": None,
    "is_frozen": False,
    "gain": 1.0,
}


@dataclass
class NetworkTally:
    """What came of the networks.

    Attributes:
        equal: how many had equal native and eager steps.
        refused: how many the native backend refused, by what it said.
        failures: those that differed, with the files that they are kept in.
    """

    equal: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    @property
    def networks(self) -> int:
        """How many there were."""
        return self.equal + self.refused.total() + len(self.failures)

    def count(self, outcome: dict[str, str]) -> None:
        """Counts what came of one network, as `compare_one` says it."""
        if outcome["refused"]:
            self.refused[outcome["refused"]] += 1
        elif outcome["differs"]:
            self.failures.append(outcome["differs"])
        else:
            self.equal += 1


def fuzz_networks(networks: int, seed: int, state: Path) -> NetworkTally:
    """What comes of so many networks, going on from the figures kept in `state`."""
    kept = read_state(state) or {"equal": 0, "refused": {}, "failures": []}
    tally = NetworkTally(kept["equal"], Counter(kept["refused"]), kept["failures"])
    with until_interrupted():
        while tally.networks < networks:
            first = tally.networks
            for outcome in _in_a_process(range(first, min(first + ROUND, networks)), seed, state.parent):
                tally.count(outcome)
            write_state(state, vars(tally), tally.networks >= networks)
    return tally


def _in_a_process(numbers: range, seed: int, kept: Path) -> Iterator[dict[str, str]]:
    """Yields what comes of networks, up to the one that ends the process, if one does."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        _compare_in_this_process(numbers, seed, kept, writer)
    os.close(writer)
    outcomes = 0
    try:
        with os.fdopen(reader) as pipe:
            for line in pipe:
                outcomes += 1
                yield json.loads(line)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    if outcomes < len(numbers):
        number = numbers[outcomes]
        case = draw(Random(f"network {seed} {number}"))
        path = _keep(_smallest(case, _DIED), seed, number, kept)
        yield {"refused": "", "differs": f"{path}: {_DIED} process ended with {status}"}


def _compare_in_this_process(numbers: range, seed: int, kept: Path, writer: int) -> None:
    """Writes a line for each network, then ends the process."""
    try:
        os.setsid()  # Ctrl-C is for the harness
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        with os.fdopen(writer, "w", buffering=1) as pipe:
            for number in numbers:
                signal.alarm(_SECONDS_TO_END)
                pipe.write(json.dumps(compare_one(number, seed, kept)) + "\n")
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(0)


def compare_one(number: int, seed: int, kept: Path) -> dict[str, str]:
    """What comes of one network: why it is refused, or what differs; both empty where all is equal."""
    case = draw(Random(f"network {seed} {number}"))
    try:
        problem = _problem(case)
    except RefusedError as refusal:
        return {"refused": sanitize(str(refusal), 200) or "without a word", "differs": ""}
    if problem:
        signal.alarm(0)  # each attempt has its own
        path = _keep(_smallest(case, _kind(problem)), seed, number, kept)
        problem = f"{path}: {sanitize(problem, 300)}"
    return {"refused": "", "differs": problem}


def _problem(case: Case) -> str:
    """What is wrong with the native steps of a network: what differs, or an error that is no refusal."""
    try:
        return check_network(case)
    except RefusedError:
        raise
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _kind(problem: str) -> str:
    """What a problem begins with, such as "gradient" or the name of an error."""
    return problem.split(maxsplit=1)[0] if problem else ""


def _smallest(case: Case, kind: str) -> Case:
    """A case with as few blocks and as plain settings as still have a problem of this kind."""
    while True:
        smaller = next((other for other in _simplified(case) if _has_problem(other, kind)), None)
        if smaller is None:
            return case
        case = smaller


def _has_problem(case: Case, kind: str) -> bool:
    """Whether a case has a problem of a kind, found in a process of its own, which it may end."""
    child = os.fork()
    if not child:
        status = _SAME
        try:
            signal.alarm(_SECONDS_TO_END)
            found = _kind(_problem(case))
            status = _SAME if found == kind else _ANOTHER
        except RefusedError:
            status = _ANOTHER
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status not in (_SAME, _ANOTHER) if kind == _DIED else status == _SAME


def _simplified(case: Case) -> Iterator[Case]:
    """Yields cases that are simpler by one thing."""
    arguments = case["arguments"]
    for name in ("encoder", "decoder", "mixer_at"):
        for index in range(len(arguments.get(name, ()))):
            shorter = [entry for i, entry in enumerate(arguments[name]) if i != index]
            yield {**case, "arguments": {**arguments, name: shorter}}
    if arguments.get("refinements"):
        yield {**case, "arguments": {**arguments, "refinements": arguments["refinements"] - 1}}
    for key, value in _SIMPLER.items():
        if case[key] != value and not (key == "optimizer" and case["vector_learning_rate"]):
            yield {**case, key: value} | ({"batch_size": case["batch_size"]} if key == "shards" else {})


def _keep(case: Case, seed: int, number: int, kept: Path) -> Path:
    path = kept / f"network-{seed}-{number}.json"
    kept.mkdir(exist_ok=True)
    path.write_text(json.dumps(case, indent=1))
    return path


def _repeat(path: Path) -> None:
    """Compares one kept network; an error is shown with its traceback."""
    case = json.loads(path.read_text())
    print(json.dumps(case), describe_network(case), sep="\n")
    print(check_network(case) or "equal")


def _show(tally: NetworkTally) -> None:
    print(
        f"{tally.networks:,} networks: {tally.equal:,} equal, {tally.refused.total():,} refused, "
        f"{len(tally.failures)} differing"
    )
    for reason, count in tally.refused.most_common():
        print(f"{count:9,} refused: {reason}")
    for line in tally.failures:
        print(f"  {line}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--networks", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--repeat", type=Path, help="a file that a network was kept in")
    parser.add_argument("--show", action="store_true", help="print what was reached, compare nothing")
    parser.add_argument("--kept", type=Path, default=KEPT, help="where figures and failures are kept")
    options = parser.parse_args()
    torch.set_num_threads(1)
    state = options.kept.absolute() / f"networks-{options.networks}-seed-{options.seed}.json"
    if options.repeat:
        _repeat(options.repeat)
        return
    if options.show:
        kept = json.loads(state.read_text())
        _show(NetworkTally(kept["equal"], Counter(kept["refused"]), kept["failures"]))
        return
    tally = fuzz_networks(options.networks, options.seed, state)
    _show(tally)
    raise SystemExit(bool(tally.failures))


if __name__ == "__main__":
    main()
