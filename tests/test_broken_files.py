"""Two hundred experiment files broken at random: each is refused in a sentence, or still right."""

from __future__ import annotations

import io
import json
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml.error import ReusedAnchorWarning

from mixcoder.cli.app import main
from mixcoder.errors import MixcoderError
from mixcoder.experiments.file.spec import read_experiment
from mixcoder.experiments.plans import plan
from mixcoder.experiments.plans.estimates import FROM_SPEED
from tests.conftest import slow
from tests.faults import broken_experiments
from tests.faults.broken_experiments import BASE, EXTENDING, MATRIX, SINGLE, SOUND, Case
from tests.pace import at_most


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder with the file that others extend; no speed is measured."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plan, "estimate_step_seconds", lambda *given: (0.01, FROM_SPEED))
    Path("base.yml").write_text(BASE)


def refusal(case: Case) -> str | None:
    """What is said of a case, None where it is right. Anything but a MixcoderError is a failure."""
    with at_most(yardsticks=20):
        try:
            broken_experiments.read(case)
        except MixcoderError as error:
            return str(error)
    return None


def case_of(content: bytes) -> Case:
    """A file without overrides."""
    return {"content": content.decode("latin-1"), "overrides": []}


def planned(overrides: Sequence[str]) -> tuple[object, str, str]:
    """Exit status, output and errors of `mixcoder plan x.yml`."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as left:
        main(["plan", "x.yml", *overrides, "--format", "json"])
    return left.value.code, out.getvalue(), err.getvalue()


@pytest.mark.parametrize("text", SOUND)
def test_what_is_broken_below_is_sound(text: str) -> None:
    assert refusal(case_of(text.encode())) is None
    assert planned([])[0] in (0, None)


@slow
def test_broken_files_are_refused_in_a_sentence() -> None:
    """Through the command line as well; `tests.faults.fuzz` opens more of them."""
    outcomes: Counter[str] = Counter()
    seen: set[str] = set()

    @settings(
        max_examples=200,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.randoms(use_true_random=False))
    def check(dice: Random) -> None:
        case = broken_experiments.draw(dice)
        seen.add(json.dumps(case))
        message = refusal(case)
        outcomes["sound" if message is None else "refused"] += 1
        status, out, err = planned(case["overrides"])
        if message is None:
            assert (status or 0, err) == (0, "")
        else:
            broken_experiments.check_refusal(case, message)
            assert (status, out, err) == (2, "", f"error: {message}\n")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ReusedAnchorWarning)  # told by the test below
        check()
    assert outcomes.total() >= 200
    assert len(seen) >= 150
    assert outcomes["refused"] >= 0.8 * outcomes.total()
    assert not list(Path().rglob("config.yml"))


def with_value(old: str, new: str, text: str = SINGLE) -> bytes:
    """A sound file with one thing changed."""
    assert old in text
    return text.replace(old, new).encode()


HEX = "0x" + "f" * 4000
KNOWN: Mapping[str, bytes] = {
    "more digits than Python writes": with_value("1_000", HEX),
    "such a number where a text belongs": with_value("mixer: cnn2d", f"mixer: {HEX}"),
    "such a number in a matrix": with_value("seed: [0]", f"seed: [{HEX}]", MATRIX),
    "half a letter as a key": with_value("kernel_size: 3", '"\\ud800": 3'),
    "half a letter as a key of the data": with_value("source: mnist", 'source: mnist, "\\ud800": 3'),
    "a file name with a NUL": with_value("base.yml", '"a\\0b"', EXTENDING),
    "a file name with half a letter": with_value("base.yml", '"\\ud800"', EXTENDING),
    "a file name that is too long": with_value("base.yml", "x" * 300, EXTENDING),
    "a line break in a text": with_value("mixer: cnn2d", 'mixer: "cn\\nn"'),
    "a line break in a key": with_value("kernel_size: 3", '"kernel\\nsize": 3'),
    "a text over several lines": with_value("mixer: cnn2d", "mixer: |\n    cnn\n    2d"),
    "a command to the terminal": with_value("mixer: cnn2d", 'mixer: "\\e[2Jcnn"'),
    "letters that turn the rest around": with_value("mixer: cnn2d", "mixer: \u202ennc"),
    "a key with a letter that does not show": with_value("kernel_size", "kernel\ufeff_size"),
    "a name as long as a book": with_value("mixer: cnn2d", f"mixer: {'cnn' * 9_000}"),
    "a key as long as a book": with_value("kernel_size: 3", f"{'x' * 900}: 3"),
    "an axis as long as a book": with_value("seed: [0]", f"seed: [0]\n  {'x' * 900}: [1, 2]", MATRIX),
    "a number as long as a book": with_value("1_000", "1" + "0" * 9_000),
}
"""What goes wrong still: an error that is not ours, broken lines, or more than anybody reads."""


@pytest.mark.parametrize("kind", KNOWN)
def test_known_to_go_wrong(kind: str) -> None:
    case = case_of(KNOWN[kind])
    message = refusal(case)
    assert message is not None
    broken_experiments.check_refusal(case, message)


def test_a_name_given_to_two_values() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        case = case_of(with_value("hidden_channels: [64, 36, 16]", "a: &x 1\n  b: &x 2"))
        message = refusal(case)
    assert message is not None
    broken_experiments.check_refusal(case, message)


def test_what_is_missing_is_missing_here() -> None:
    """A model of another type starts anew, so that nothing of the file below it counts."""
    Path("x.yml").write_text("extends: base.yml\nmodel: {type: cnn, channels: [4], kernel_size: 3}\n")
    with pytest.raises(MixcoderError, match=r"^x\.yml:2: model\.latent_dim: is missing$"):
        read_experiment(Path("x.yml"))


def test_nothing_to_exclude() -> None:
    message = refusal(case_of(with_value("- {mixer: mlp, size: {name: small}}", "- {}", MATRIX)))
    assert message is not None
    assert "not a map" not in message
