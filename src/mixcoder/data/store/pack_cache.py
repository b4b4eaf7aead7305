"""The cache of packed stores, and the lists of what was left out of them."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from pathlib import Path

from mixcoder.data.fetch_progress import UpdateTask
from mixcoder.data.store.image_store import ImageStore, lock_path, open_store, pack, remove_store
from mixcoder.errors import WriteError
from mixcoder.io.atomic_file import write_atomically
from mixcoder.io.file_lock import file_lock
from mixcoder.io.user_folders import cache_folder
from mixcoder.pixels.codec import Pixels
from mixcoder.text.sanitize import csv_cell

_LONGEST_LABEL = 40


def pack_path(label: str, identity: str, content: str) -> Path:
    """Returns where the store of a collection of images is, or will be.

    Args:
        label: of the collection, to be read by people.
        identity: which collection, and how its images are stored.
        content: changes when its images do.

    Raises:
        CacheError: there is no place for the cache.
    """
    readable = re.sub(r"[^A-Za-z0-9]+", "-", label).strip("-")[-_LONGEST_LABEL:]
    name = f"{readable}-{_short_hash(identity)}-{_short_hash(content)}.safetensors"
    return cache_folder() / "packed" / name


def pack_into(
    path: Path,
    names: Sequence[str],
    decode: Callable[[str], Pixels],
    progress: UpdateTask,
    labels: Mapping[str, int] | None = None,
) -> ImageStore:
    """Returns the store at `path`, made where it is missing; removes earlier states of its collection.

    Raises:
        DataError: no image can be used, or the store is damaged.
        WriteError: it cannot be written.
    """
    is_new = not (path.exists() and _list_path(path).exists())  # a kill may have come between the two
    store = pack(path, names, decode, path.stem, progress, labels)
    if is_new:
        _remove_earlier(path)
    _write_left_out(store)
    return store


def open_packed(path: Path) -> ImageStore:
    """Returns the store at `path`, which was packed earlier.

    Raises:
        DataError: it is not there, or damaged.
        WriteError: the list of what was left out of it is missing, and cannot be written.
    """
    store = open_store(path)
    _write_left_out(store)
    return store


def describe_left_out(store: ImageStore) -> str:
    """Returns a sentence on what could not be used; empty where all was."""
    if not store.left_out:
        return ""
    total = len(store) + len(store.left_out)
    return f"{len(store.left_out):,} of {total:,} images are left out: {_list_path(store.path)} says why"


def _remove_earlier(path: Path) -> None:
    """Removes the stores of other states of a collection, unless another process is packing them."""
    collection = path.stem.rpartition("-")[0]
    states = {other.name.partition(".")[0] for other in path.parent.glob(f"{collection}-*")}
    for state in states - {path.stem}:
        other = path.with_name(state + path.suffix)
        remove_store(other)
        if not other.exists():
            _remove_list(other)


def _write_left_out(store: ImageStore) -> None:
    """Writes names and reasons as comma-separated values, for people; the store holds them too.

    They are written where they are missing: a process may have ended right after it packed the store.
    """
    path = _list_path(store.path)
    if path.exists():
        return
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("image", "reason"))
    writer.writerows(map(csv_cell, entry) for entry in store.left_out.items())
    try:
        with file_lock(lock_path(store.path)):
            _remove_list(store.path)
            write_atomically(path, text.getvalue().encode())
    except OSError as error:
        raise WriteError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from error


def _remove_list(path: Path) -> None:
    """Removes the list of what was left out of a store, and what a process left that was killed over it."""
    name = _list_path(path).name
    for part in (path.with_name(name), *path.parent.glob(f".{name}.*.part")):
        part.unlink(missing_ok=True)


def _list_path(path: Path) -> Path:
    return path.with_suffix(".left-out.csv")


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:8]
