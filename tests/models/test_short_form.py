"""Equal models are stated in one way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mixcoder.experiments.file.spec import read_experiment
from mixcoder.models import MODELS
from mixcoder.models.short_form import short_form

TWINS: list[tuple[str, Any, Any]] = [
    ("mixer", {"name": "cnn"}, "cnn"),
    ("mixer", {"name": "grouped", "groups": 4}, "grouped"),
    ("mixer", {"name": "grouped", "groups": 8, "bias": "position"}, {"name": "grouped", "groups": 8}),
    ("output_activation", {"name": "sigmoid", "scale": 1.0}, "sigmoid"),
    ("refine", {"steps": 2, "matrix": "full", "trust_radius": 1.0}, {"steps": 2}),
    ("refine", {"steps": 2, "fewest": 2}, {"steps": 2}),
    ("refine", {"steps": 2, "fewest": 1}, {"steps": 2, "fewest": 1}),
    ("refine", None, None),
]


@pytest.mark.parametrize(("key", "stated", "short"), TWINS)
def test_what_says_only_a_default_is_left_out(key: str, stated: Any, short: Any) -> None:
    assert short_form(MODELS["mixer"], {key: stated}) == {key: short}


def test_also_in_lists_of_layers() -> None:
    stated = ["film", {"repeat": 2, "layers": [{"mixer": {"name": "kronecker", "bias": "position"}}]}]
    short = ["film", {"repeat": 2, "layers": [{"mixer": "kronecker"}]}]
    assert short_form(MODELS["stack"], {"decoder": stated, "patch_size": 2}) == {
        "decoder": short,
        "patch_size": 2,
    }


def test_equal_runs_have_one_digest(tmp_path: Path) -> None:
    digests = set()
    for mixer in ("grouped", "{name: grouped}", "{name: grouped, groups: 4}"):
        file = tmp_path / "mine.yml"
        file.write_text(
            "name: mine\ndata: {source: digits}\ntraining: {inputs: 640}\n"
            "model: {type: mixer, patch_size: 2, hidden_channels: [16], latent_dim: 4, mixer_at: [1], "
            f"mixer: {mixer}}}\n"
        )
        [run] = read_experiment(file).runs
        digests.add(run.digest)
    assert len(digests) == 1
