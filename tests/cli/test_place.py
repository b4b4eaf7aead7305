"""Options that say where runs are trained: what does not go together is named."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mixcoder.cli.place import RunPlace, check_place
from tests.conftest import Cli

HERE = RunPlace(jobs=None, device="auto", cluster=None, cpus=None, gpus=None, launcher=None)
CLUSTER = HERE._replace(cluster="10.0.0.1:6379")

WRONG = {
    "--cpus: goes with --cluster alone": HERE._replace(cpus=2.0),
    "--gpus: goes with --cluster alone": HERE._replace(gpus=0.25),
    "-j: must be at most 256 on one machine, found 300": HERE._replace(jobs=300),
    "--launcher: starts runs without --cluster": CLUSTER._replace(launcher="env"),
    "--launcher: must be a command, such as 'srun -n1'": HERE._replace(launcher=""),
    "--device: goes without --cluster": CLUSTER._replace(device="cpu"),
    "--gpus: must be a share of one GPU or whole ones, found 1.5": CLUSTER._replace(gpus=1.5),
    "--gpus: must be 0, or at least 0.0001, found 1e-05": CLUSTER._replace(gpus=1e-5),
    "--cpus: must be 0, or at least 0.0001, found inf": CLUSTER._replace(cpus=float("inf")),
    "--cpus: 0 puts all runs on one node": CLUSTER._replace(cpus=0.0),
    "--cluster: must be auto or HOST:PORT": CLUSTER._replace(cluster=""),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_does_not_go_together_is_named(message: str) -> None:
    with pytest.raises(ValueError) as error:
        check_place(WRONG[message])
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    "place",
    [
        HERE,
        HERE._replace(jobs=256, device="cpu"),
        HERE._replace(launcher="env X=Y"),
        CLUSTER._replace(jobs=10_000, cpus=1.5, gpus=0.25),
        CLUSTER._replace(cpus=0.0, gpus=2.0),
        CLUSTER._replace(cpus=0.0, jobs=4),
        CLUSTER._replace(cluster="auto"),
    ],
)
def test_what_goes_together_is_taken(place: RunPlace) -> None:
    check_place(place)


def test_a_cluster_without_ray_names_the_package(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    for name in [name for name in sys.modules if name.startswith("mixcoder.experiments.sweeps.ray_")]:
        monkeypatch.delitem(sys.modules, name)
    Path("x.yml").write_text(
        "name: x\ndata: {source: digits}\ntraining: {inputs: 64}\n"
        "model: {type: mixer, patch_size: 4, hidden_channels: [4], latent_dim: 3}\n"
    )
    status, _, err = cli("run", "x.yml", "--cluster", "auto")
    assert (status, err) == (2, "error: --cluster needs another package: pip install 'mixcoder[ray]'\n")
