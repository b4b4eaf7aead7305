"""`mixcoder models` and `mixcoder data`, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.test_train import PLUGIN
from tests.conftest import Cli


def test_plugins_show_in_the_listing(cli: Cli) -> None:
    Path("mine.py").write_text(PLUGIN)
    _, out, _ = cli("--plugin", "mine.py", "models", "ls", "--format", "json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert rows["shift"] == {
        "kind": "mixer",
        "name": "shift",
        "summary": "Every patch sees the one before it.",
    }
    assert {"mixer", "cnn", "script"} <= {name for name, row in rows.items()}
    assert all(row["summary"] for row in rows.values())


def test_models_show(cli: Cli) -> None:
    status, out, _ = cli("models", "show", "mixer")
    assert status == 0
    assert "35,249 parameters, latent shape (16,), compression ratio 49" in out
    assert "encoder.2.module" in out
    status, out, _ = cli("models", "show", "mixer", "kernel_size=3", "mixer=cnnf", "--format", "json")
    rows = json.loads(out)
    assert sum(row["params"] for row in rows) == 89_297
    assert rows[0] == {
        "layer": "patchify",
        "module": "Patchify(patch_size=7)",
        "output_shape": [16, 49],
        "params": 0,
    }
    status, out, _ = cli("models", "show", "script", "image_shape=[1, 8, 8]", "script=ch=4|down2|ch=1")
    assert "latent shape (1, 4, 4)" in out


@pytest.mark.usefixtures("empty_cache")
def test_data_ls(cli: Cli) -> None:
    _, out, _ = cli("data", "ls", "--format", "json")
    rows = {row["source"]: (row["image_shape"], row["status"]) for row in json.loads(out)}
    assert rows == {
        "digits": ([1, 8, 8], "ready"),
        "folder": (None, "ready once told: path: is missing: name a folder of images"),
        "hub": (None, "ready once told: name: is missing (in data source 'hub')"),
        "npz": (None, "ready once told: path: is missing (in data source 'npz')"),
        "memory": (None, "ready once told: name: is missing (in data source 'memory')"),
        **dict.fromkeys(("mnist", "fashion_mnist", "kmnist", "emnist"), ([1, 28, 28], "not fetched yet")),
        **dict.fromkeys(("cifar10", "cifar100", "svhn"), ([3, 32, 32], "not fetched yet")),
        "unsplash": ([3, 96, 96], "not fetched yet"),
    }


def test_data_verify(cli: Cli, mnist_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIXCODER_DATA", str(mnist_folder.parent))
    status, out, _ = cli("data", "verify", "mnist")
    assert status == 0
    assert out.count("-ubyte") == 4
    assert "damaged" not in out
    expected = f"mnist: 60,000 images to train on, 10,000 to validate on\nready in {mnist_folder}\n"
    assert cli("data", "fetch", "mnist")[:2] == (0, expected)


def test_a_mixing_layer_is_shown_in_a_model(cli: Cli) -> None:
    status, _, err = cli("models", "show", "kronecker")
    command = "mixcoder models show mixer mixer=kronecker"
    assert (status, err) == (
        2,
        "error: 'kronecker' is a mixing layer, not a kind of models; see docs/mixing-layers.md; "
        f"{command} shows it in a model\n",
    )
    rows = json.loads(cli(*command.split()[1:], "--format", "json")[1])
    assert "decoder.5.rows" in {row["layer"] for row in rows}
