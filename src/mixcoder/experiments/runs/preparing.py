"""What is done before anything trains: images are fetched, and those of finished runs compared.

    runs ─ by data source ─┬─ not done ─▶ fetched, packed
                           └─ done ─────▶ is the hash of the images in result.json that of the images now?

So a table never mixes results of different images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mixcoder.data import DataSource
from mixcoder.data.fetch_progress import StartTask
from mixcoder.errors import MixcoderError, RunDirectoryError
from mixcoder.experiments.file.spec import Run
from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.training.checkpoint import short_hash


@dataclass(frozen=True)
class SharedImages:
    """A data source, and the runs of an experiment that share its images.

    Attributes:
        source: not loaded yet.
        done: directories of the runs that are done.
        are_all_done: whether there are no others.
    """

    source: DataSource
    done: Sequence[RunDirectory]
    are_all_done: bool


def group_by_images(runs: Sequence[Run], folder: Path) -> list[SharedImages]:
    """Returns the data sources of runs; looks once which runs are done in `folder`, that of all runs."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(repr((run.data, run.root)), []).append(run)
    found = []
    for sharing in groups.values():
        directories = RunDirectory.of_all(sharing, folder)
        done = [directory for directory in directories if directory.is_done()]
        found.append(SharedImages(sharing[0].create_source(), done, len(done) == len(directories)))
    return found


def prepare_images(groups: Sequence[SharedImages], progress: StartTask) -> list[str]:
    """Fetches and packs the images of runs that are not done.

    Args:
        groups: of an experiment's runs.
        progress: called with what is fetched and packed.

    Returns:
        Notes for the user, such as how many images had to be left out.

    Raises:
        DataError: images cannot be fetched or read.
    """
    notes = [group.source.prepare(progress) for group in groups if not group.are_all_done]
    return list(filter(None, notes))


def compare_images(groups: Sequence[SharedImages], progress: StartTask) -> list[str]:
    """Checks that the runs that are done were trained on the images that are here now.

    Args:
        groups: of an experiment's runs.
        progress: called with what is packed.

    Returns:
        Notes for the user, such as that images cannot be read now.

    Raises:
        RunDirectoryError: a finished run was trained on other images than its settings give now.
    """
    notes = [_check_same_images(group.done, group.source, progress) for group in groups if group.done]
    return list(filter(None, notes))


def _check_same_images(done: Sequence[RunDirectory], source: DataSource, progress: StartTask) -> str:
    """Checks that finished runs are of the present images; returns a note where these cannot be read.

    Raises:
        RunDirectoryError: a run was trained on other images.
    """
    stated = {directory: _data_hash(directory) for directory in done}
    hashes = {directory: data_hash for directory, data_hash in stated.items() if data_hash is not None}
    _check_equal(hashes)
    if not source.is_fetched():
        return ""
    try:
        source.prepare(progress)
        now = source.load().content_hash()
    except MixcoderError as error:
        return f"finished runs are shown as they are, their images cannot be read now ({error})"
    others = [(directory, was) for directory, was in hashes.items() if was != now]
    if not others:
        return ""
    directory, was = others[0]
    more = "" if len(others) == 1 else f" and {len(others) - 1:,} more"
    raise RunDirectoryError(
        f"{directory.path}{more}: trained on other images ({short_hash(was)}, now they are "
        f"{short_hash(now)}); bring those back, delete what is finished to train anew, "
        f"or keep both with another name, such as name={directory.path.parent.name}-2"
    )


def _check_equal(hashes: Mapping[RunDirectory, str]) -> None:
    """Checks that runs were trained on the same images: two machines may have others in folders of one name.

    Raises:
        RunDirectoryError: two were not; names them.
    """
    first = next(iter(hashes), None)
    for directory, stated in hashes.items():
        if first is not None and stated != hashes[first]:
            raise RunDirectoryError(
                f"{first.path} and {directory.path} were trained on different images "
                f"({short_hash(hashes[first])} and {short_hash(stated)}; log.txt says where); "
                "delete the one that is wrong to train it anew"
            )


def _data_hash(directory: RunDirectory) -> str | None:
    """Returns the hash of the images of a result, or None where the result lacks it."""
    stated = (directory.read_result() or {}).get("data_hash")
    return stated if isinstance(stated, str) else None
