"""Where runs are trained: the options that say so, and the workers that follow from them.

    -j 4, --device ──────────────▶ LocalWorkers
    --launcher 'srun -n1' ───────▶ LaunchedWorkers
    --cluster, --cpus, --gpus ───▶ RayWorkers

One run without any of them is trained in this process.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mixcoder.errors import ArgumentError, ClusterError
from mixcoder.experiments.sweeps.launched import LaunchedWorkers, split_launcher
from mixcoder.experiments.sweeps.local import LocalWorkers
from mixcoder.experiments.sweeps.workers import Workers

_MOST_JOBS_HERE = 256
_SMALLEST_SHARE = 0.0001
"""Of a core or a GPU, as Ray counts them."""


class RunPlace(NamedTuple):
    """A choice of where runs are trained, and how many at a time; None is what was not chosen."""

    jobs: int | None
    device: str
    cluster: str | None
    cpus: float | None
    gpus: float | None
    launcher: str | None

    @property
    def is_here(self) -> bool:
        """Whether it is this machine, without a launcher."""
        return self.cluster is None and self.launcher is None


def check_place(place: RunPlace) -> None:
    """Checks that the options of a place go together, before anything is read or written.

    Raises:
        ArgumentError: they do not; says which.
    """
    if place.launcher is not None:
        split_launcher(place.launcher)
    for option, value in (("--cpus", place.cpus), ("--gpus", place.gpus)):
        if value is not None and place.cluster is None:
            raise ArgumentError(option, "goes with --cluster alone")
    if place.cluster is None and (place.jobs or 1) > _MOST_JOBS_HERE:
        raise ArgumentError("-j", f"must be at most {_MOST_JOBS_HERE} on one machine, found {place.jobs}")
    if place.cluster is not None and place.launcher is not None:
        raise ArgumentError("--launcher", "starts runs without --cluster; leave out one of them")
    if place.cluster is not None and place.device != "auto":
        raise ArgumentError("--device", "goes without --cluster: there, --gpus 1 takes a GPU, --gpus 0 none")
    if place.cluster == "":
        raise ArgumentError("--cluster", "must be auto or HOST:PORT, such as 10.0.0.1:6379")
    if place.cluster is not None:
        _check_resources(place)


def _check_resources(place: RunPlace) -> None:
    """Checks what a run takes of a node, as Ray would in words of its own."""
    for option, value in (("--cpus", place.cpus), ("--gpus", place.gpus)):
        if value and not _SMALLEST_SHARE <= value < math.inf:
            raise ArgumentError(option, f"must be 0, or at least {_SMALLEST_SHARE}, found {value:g}")
    if place.gpus and place.gpus > 1 and place.gpus % 1:
        raise ArgumentError("--gpus", f"must be a share of one GPU or whole ones, found {place.gpus:g}")
    if place.cpus == 0 and not place.gpus and place.jobs is None:
        raise ArgumentError("--cpus", "0 puts all runs on one node; state --gpus, or how many runs with -j")


def check_under_torchrun(place: RunPlace) -> None:
    """Checks that a process of torchrun is given no option for other places.

    Raises:
        ArgumentError: it is; says which.
    """
    jobs = place.jobs if place.jobs != 1 else None
    others = {"-j": jobs, "--cluster": place.cluster, "--cpus": place.cpus, "--gpus": place.gpus}
    for option, value in {**others, "--launcher": place.launcher}.items():
        if value is not None:
            reason = "all its processes train one run after the other"
            raise ArgumentError(option, f"does not go with torchrun, {reason}; leave it out")


def create_workers(place: RunPlace, runs: Path, plugins: Sequence[str]) -> Workers:
    """Returns the workers of a sweep.

    Raises:
        ClusterError: there is no such cluster, or Ray is not installed.
    """
    here = (runs, place.jobs or 1, place.device, plugins)
    if place.launcher is not None:
        return LaunchedWorkers(*here, split_launcher(place.launcher))
    if place.cluster is None:
        return LocalWorkers(*here)
    try:
        from mixcoder.experiments.sweeps.ray_workers import RayWorkers, Resources
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise ClusterError("--cluster needs another package: pip install 'mixcoder[ray]'") from None
    resources = Resources(1.0 if place.cpus is None else place.cpus, place.gpus or 0.0)
    return RayWorkers(place.cluster, resources, place.jobs, plugins)
