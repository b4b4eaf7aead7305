"""Where packed stores are kept, and what was left out of them is told."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path

from mixcoder.atomic_file import write_atomically
from mixcoder.data.decode import Pixels
from mixcoder.data.progress import Progress
from mixcoder.data.store import ImageStore, pack
from mixcoder.file_lock import file_lock
from mixcoder.safe_text import csv_cell
from mixcoder.user_folders import cache_folder

_LONGEST_LABEL = 40


def pack_path(label: str, identity: str, content: str) -> Path:
    """Where the store of a collection of images is, or will be.

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
    path: Path, names: Sequence[str], decode: Callable[[str], Pixels], progress: Progress
) -> ImageStore:
    """The store at `path`, made where it is not there yet; earlier states of its collection are removed.

    Raises:
        DataError: no image can be used, or the store is damaged.
        WriteError: it cannot be written.
    """
    is_new = not (path.exists() and _list_path(path).exists())  # a kill may have come between the two
    store = pack(path, names, decode, key=path.stem, progress=progress)
    if is_new:
        with file_lock(path.with_suffix(".lock")):
            _remove_earlier(path)
            _write_left_out(store)
    return store


def describe_left_out(store: ImageStore) -> str:
    """A sentence on what could not be used; empty where all was."""
    if not store.left_out:
        return ""
    total = len(store) + len(store.left_out)
    return f"{len(store.left_out):,} of {total:,} images are left out: {_list_path(store.path)} says why"


def _remove_earlier(path: Path) -> None:
    """Removes earlier states of the collection, and what a process left that was killed over the list."""
    collection = path.stem.rpartition("-")[0]
    for part in path.parent.glob(f".{collection}-*.part"):
        part.unlink(missing_ok=True)
    for other in path.parent.glob(f"{collection}-*"):
        if other.stem.removesuffix(".left-out") != path.stem:
            other.unlink(missing_ok=True)


def _write_left_out(store: ImageStore) -> None:
    """Names and reasons as comma-separated values, for people; the store holds them too."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("image", "reason"))
    writer.writerows(map(csv_cell, entry) for entry in store.left_out.items())
    write_atomically(_list_path(store.path), text.getvalue().encode())


def _list_path(path: Path) -> Path:
    return path.with_suffix(".left-out.csv")


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:8]
