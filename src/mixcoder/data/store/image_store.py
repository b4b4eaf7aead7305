"""The packed image store: images of different sizes as one file that is read where it lies.

    images ─decode (threads)─▶ journal (names, sizes, checksums) + pixels, appended ─▶ NAME.safetensors
                                     ▲ a packing that was cut off goes on from here

The file is a safetensors file that is mapped into memory, so that a crop is a copy of a few bytes:

    pixels   (bytes,) uint8   image after image, each (C, H, W)
    offsets  (N,) int64       where in `pixels` an image begins
    sizes    (N, 2) int64     its height and width
    index    (bytes,) uint8   JSON: the names of the images, and of those left out with the reason; perhaps
                              the labels of the images

Its metadata holds the number of channels, a key that says from what it was made, and the SHA-256 of all that
follows the header.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mixcoder.data.fetch_progress import UpdateTask
from mixcoder.data.read_ahead import map_ahead
from mixcoder.errors import DataError, WriteError, first_line
from mixcoder.io.file_lock import file_lock
from mixcoder.io.safetensors_header import Entry, safetensors_header
from mixcoder.pixels.codec import ImageError, Pixels
from mixcoder.text.sanitize import sanitize

_HEADER_BYTES = 4096
_READ_BYTES = 1 << 20
_SYNC_IMAGES = 256
_WORD = 8


@dataclass(frozen=True)
class ImageStore:
    """A file of packed images, mapped into memory.

    Attributes:
        path: the file.
        channels: C of every image.
        pixels: (bytes,) uint8.
        offsets: (N,) int64, where in `pixels` each image begins.
        sizes: (N, 2) int64, height and width of each image.
        names: of the images, in their order.
        left_out: names of what could not be used, and why.
        sha256: of the file's content, hex.
        labels: (N,) int64, where the images have some.
    """

    path: Path
    channels: int
    pixels: Tensor
    offsets: Tensor
    sizes: Tensor
    names: list[str]
    left_out: dict[str, str]
    sha256: str
    labels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.names)

    def image(self, index: int) -> Tensor:
        """Returns image number `index`: (C, H, W) uint8."""
        height, width = self.sizes[index].tolist()
        start = int(self.offsets[index])
        size = self.channels * height * width
        return self.pixels[start : start + size].reshape(self.channels, height, width)  # (C, H, W)


def open_store(path: Path) -> ImageStore:
    """Returns the store at `path`, checked whole against its SHA-256.

    Raises:
        DataError: it is not there, or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in ("pixels", "offsets", "sizes", "index")}
        if _sha256(path) != metadata["sha256"]:
            raise ValueError("its checksum differs")
        index = json.loads(tensors["index"].numpy().tobytes())
        store = ImageStore(
            path,
            int(metadata["channels"]),
            tensors["pixels"],
            tensors["offsets"],
            tensors["sizes"],
            index["names"],
            index["left_out"],
            metadata["sha256"],
            torch.tensor(index["labels"]) if "labels" in index else None,
        )
        _check(store)
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = sanitize(first_line(error), 200)
        raise DataError(f"{path}: is damaged ({reason}); delete it, and it will be made anew") from error
    return store


def _check(store: ImageStore) -> None:
    """Raises ValueError unless the images lie one behind the other, from the first pixel to the last."""
    names, left_out = store.names, store.left_out
    if not (isinstance(names, list) and isinstance(left_out, dict)):
        raise ValueError("its index has another form")
    texts = [*names, *left_out, *left_out.values()]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("its index has another form")
    "".join(texts).encode(errors="surrogateescape")
    forms = [(tensor.dtype, *tensor.shape) for tensor in (store.offsets, store.sizes)]
    if forms != [(torch.int64, len(names)), (torch.int64, len(names), 2)] or not names:
        raise ValueError("its tables have another form")
    labels = store.labels
    if labels is not None and (labels.dtype, *labels.shape) != (torch.int64, len(names)):
        raise ValueError("its labels have another form")
    end = 0
    for start, (height, width) in zip(store.offsets.tolist(), store.sizes.tolist(), strict=True):
        if start != end or min(store.channels, height, width) < 1:
            raise ValueError("its images lie elsewhere")
        end += store.channels * height * width
    if store.pixels.dtype != torch.uint8 or store.pixels.shape != (end + -end % _WORD,):
        raise ValueError("its pixels have another form")


def pack(
    path: Path,
    names: Sequence[str],
    decode: Callable[[str], Pixels],
    key: str,
    progress: UpdateTask | None = None,
    labels: Mapping[str, int] | None = None,
) -> ImageStore:
    """Returns the store at `path`; made first where it is not there, going on where a packing was cut off.

    Images are decoded side by side, a bounded number at a time, and appended in their order. A second
    process that packs the same store waits for the first.

    Args:
        path: where the store is or will be, whole or not at all.
        names: of the images, in their order.
        decode: from a name to pixels (C, H, W), C being the same for all; called from several threads.
        key: changes with all that changes the pixels; a packing of another key is begun anew.
        progress: told of the images as they come.
        labels: of all images by name, where there are any.

    Raises:
        DataError: no image can be used, or the store is damaged.
        WriteError: it cannot be written.
    """
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with file_lock(lock_path(path)):
                if not path.exists():
                    _Packing(path, key, labels or {}).run(names, decode, progress)
                path.with_suffix(".journal").unlink(missing_ok=True)  # also after a kill behind the last step
        except OSError as error:
            raise WriteError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from error
        try:
            return open_store(path)
        except DataError:
            if path.exists():  # else another process, which packed other images, removed it meanwhile
                raise


def lock_path(path: Path) -> Path:
    """Returns the lock for making or removing the store at `path`; its file stays: another may wait."""
    return path.with_suffix(".lock")


def remove_store(path: Path) -> None:
    """Removes a store, or what is left of a packing; not while another process packs it."""
    try:
        with file_lock(lock_path(path), timeout=0):
            for suffix in (".journal", ".part", path.suffix):
                path.with_suffix(suffix).unlink(missing_ok=True)
    except OSError:  # it is being packed, or is open elsewhere, on systems that mind
        return


class _Packing:
    """A store that is being packed: a file of pixels, and a journal that says which images they are."""

    def __init__(self, path: Path, key: str, labels: Mapping[str, int]) -> None:
        self.path = path
        self.key = key
        self.labels = labels
        self.pixels_path = path.with_suffix(".part")
        self.journal_path = path.with_suffix(".journal")
        self.entries: list[dict[str, Any]] = []

    def run(self, names: Sequence[str], decode: Callable[[str], Pixels], progress: UpdateTask | None) -> None:
        self._resume(names)
        with self.pixels_path.open("r+b") as pixels, self.journal_path.open("ab") as journal:
            pixels.seek(0, os.SEEK_END)
            pending: list[dict[str, Any]] = []
            for entry, content in _decoded(names[len(self.entries) :], decode):
                pixels.write(content)
                self.entries.append(entry)
                pending.append(entry)
                if len(pending) >= _SYNC_IMAGES:
                    _record(pixels, journal, pending)
                if progress:
                    progress(len(self.entries), len(names))
            _record(pixels, journal, pending)
            self._finish(pixels)
        self.pixels_path.replace(self.path)

    def _resume(self, names: Sequence[str]) -> None:
        """Reads back what an earlier packing of the same key left whole, or begins anew."""
        head = {"key": self.key, "names": zlib.crc32(json.dumps(names).encode())}
        lines = _whole_lines(self.journal_path)
        if not lines or lines[0] != head or not self.pixels_path.exists():
            self.pixels_path.write_bytes(b" " * _HEADER_BYTES)
            self.journal_path.write_bytes(_line(head))
            return
        end = _HEADER_BYTES
        with self.pixels_path.open("r+b") as pixels:
            size = pixels.seek(0, os.SEEK_END)
            pixels.seek(end)
            for entry, name in zip(lines[1:], names, strict=False):
                if not _is_entry(entry, name) or entry["bytes"] > size - end:
                    break
                content = pixels.read(entry["bytes"])
                if len(content) < entry["bytes"] or zlib.crc32(content) != entry.get("crc"):
                    break
                self.entries.append(entry)
                end += len(content)
            pixels.truncate(end)
        self.journal_path.write_bytes(b"".join(map(_line, [head, *self.entries])))

    def _finish(self, pixels: BinaryIO) -> None:
        """Writes the index behind the pixels and the header before them."""
        images = [entry for entry in self.entries if "height" in entry]
        if not images:
            raise DataError(_nothing_usable(self.entries))
        ends = np.cumsum([0, *(entry["bytes"] for entry in images)], dtype=np.int64)
        index = {
            "names": [entry["name"] for entry in images],
            "left_out": {entry["name"]: entry["reason"] for entry in self.entries if "reason" in entry},
            **({"labels": [self.labels[entry["name"]] for entry in images]} if self.labels else {}),
        }
        start = pixels.tell()
        pixels.write(bytes(-(start - _HEADER_BYTES) % _WORD))  # so that the numbers behind lie on whole words
        sizes = np.array([(entry["height"], entry["width"]) for entry in images], dtype=np.int64)  # (N, 2)
        text = json.dumps(index).encode()
        header = {
            "pixels": Entry("U8", (pixels.tell() - _HEADER_BYTES,)),
            "offsets": Entry("I64", (len(images),)),
            "sizes": Entry("I64", sizes.shape),
            "index": Entry("U8", (len(text),)),
        }
        for content in (ends[:-1].tobytes(), sizes.tobytes(), text):
            pixels.write(content)
        pixels.flush()
        metadata = {
            "format": "mixcoder image store 1",
            "channels": str(images[0]["channels"]),
            "key": self.key,
            "sha256": _sha256(self.pixels_path),
        }
        pixels.seek(0)
        pixels.write(safetensors_header(header, metadata, _HEADER_BYTES))
        pixels.flush()
        os.fsync(pixels.fileno())


def _decoded(names: Sequence[str], decode: Callable[[str], Pixels]) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Yields the journal's entry and the bytes of each image, in order; decoded ahead, but not far."""

    def attempt(name: str) -> tuple[dict[str, Any], bytes]:
        try:
            pixels = decode(name)
        except ImageError as error:
            return {"name": name, "reason": str(error), "bytes": 0, "crc": 0}, b""
        content = pixels.tobytes()
        channels, height, width = pixels.shape
        entry = {"name": name, "channels": channels, "height": height, "width": width}
        return {**entry, "bytes": len(content), "crc": zlib.crc32(content)}, content

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a decoder's doubts about an image that it decodes all the same
        yield from map_ahead(attempt, names)


def _record(pixels: BinaryIO, journal: BinaryIO, pending: list[dict[str, Any]]) -> None:
    """Notes images as packed, once their pixels are on the disk."""
    pixels.flush()
    os.fsync(pixels.fileno())
    journal.write(b"".join(map(_line, pending)))
    journal.flush()
    pending.clear()


def _line(entry: dict[str, Any]) -> bytes:
    """Returns a line of the journal: its CRC-32, and the entry as JSON."""
    text = json.dumps(entry).encode() + b"\n"
    return b"%08x %s" % (zlib.crc32(text), text)


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    """Returns the entries of a journal up to its first damaged or torn line."""
    lines: list[dict[str, Any]] = []
    if not path.exists():
        return lines
    for line in path.read_bytes().splitlines(keepends=True):
        checksum, _, text = line.partition(b" ")
        if checksum != b"%08x" % zlib.crc32(text):
            break
        try:
            lines.append(json.loads(text))
        except (ValueError, RecursionError):  # no packing wrote that
            break
    return lines


def _is_entry(entry: Any, name: str) -> bool:
    """Returns whether a line of a journal says what a packing says of the image called `name`."""
    if not isinstance(entry, dict) or entry.get("name") != name:
        return False
    if isinstance(entry.get("reason"), str):
        return "height" not in entry and (entry.get("bytes"), entry.get("crc")) == (0, 0)
    sizes: list[Any] = [entry.get(key) for key in ("channels", "height", "width")]
    return all(type(size) is int and size > 0 for size in sizes) and entry.get("bytes") == math.prod(sizes)


def _nothing_usable(entries: Sequence[dict[str, Any]]) -> str:
    if not entries:
        return "there is no image"
    first = entries[0]
    name, reason = (sanitize(first[key], 200) for key in ("name", "reason"))
    return f"none of {len(entries):,} images can be used; {name}: {reason}"


def _sha256(path: Path) -> str:
    """Returns the SHA-256 (hex) of what follows a store's header."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        file.seek(_HEADER_BYTES)
        while chunk := file.read(_READ_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
