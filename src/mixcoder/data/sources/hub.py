"""Image data sets of the Hugging Face hub, by name.

    hub ─ datasets ─▶ rows, their images as files' content ─▶ packed store, in the user's cache

Once packed, a data set is not asked for again: results stay comparable, and no network is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixcoder.data.fetch_progress import StartTask
from mixcoder.data.source import register_source
from mixcoder.data.sources.packed import Packed, PackedSource
from mixcoder.data.store.image_store import ImageStore
from mixcoder.data.store.pack_cache import open_packed, pack_into, pack_path
from mixcoder.errors import ArgumentError, DataError, did_you_mean, first_line
from mixcoder.pixels.codec import ImageError, Pixels, decode_bytes, decode_file
from mixcoder.text.sanitize import sanitize

if TYPE_CHECKING:
    from datasets import Dataset


_LABEL_COLUMNS = ("label", "labels", "fine_label")
"""Columns that hold labels; the first that is there counts."""


@register_source("hub")
class Hub(PackedSource):
    """Images of a data set of the Hugging Face hub: `name=...`. Needs `pip install 'mixcoder[hub]'`.

    Args:
        name: such as `ylecun/mnist`, or a folder on this machine with a data set in the hub's layout.
        config: which of its configurations, where it has several.
        train: the split to train on.
        validation: the split to validate on; without it a share of `train` validates.
        revision: a commit, branch or tag; without it the newest is taken when the data set is first packed.
        column: the column that holds the images.
        crop_size: height and width of the crops.
        channels: 1 for grey, 3 for RGB.
        longest_edge: images are scaled down to this longest edge, but no smaller than a crop; `null` (None
            in Python) leaves them as they are.
        validation_share: how much of `train` validates where `validation` is left out.
        horizontal_flips: mirrors half of the training crops.
    """

    def __init__(
        self,
        name: str,
        config: str | None = None,
        train: str = "train",
        validation: str | None = None,
        revision: str | None = None,
        column: str = "image",
        crop_size: int = 96,
        channels: int = 3,
        longest_edge: int | None = 160,
        validation_share: float = 0.1,
        horizontal_flips: bool = False,
    ) -> None:
        super().__init__(crop_size, channels, longest_edge, validation_share, horizontal_flips)
        if not name:
            raise ArgumentError("name", "is empty: name a data set of the hub, such as ylecun/mnist")
        self.name = name
        self.config = config
        self.splits = [train] if validation is None else [train, validation]
        self.revision = revision
        self.column = column

    @classmethod
    def located(cls, arguments: dict[str, Any], folder: Path) -> dict[str, Any]:
        path = folder / str(arguments.get("name", ""))
        return {**arguments, "name": str(path)} if arguments.get("name") and _is_folder(path) else arguments

    def is_fetched(self) -> bool:
        return all(self._pack_path(split).exists() for split in self.splits)

    def status(self) -> str:
        return "ready" if self.is_fetched() else "not fetched yet"

    def packs(self, progress: StartTask) -> list[Packed]:
        return [Packed(self._store(split, progress)) for split in self.splits]

    def _store(self, split: str, progress: StartTask) -> ImageStore:
        path = self._pack_path(split)
        if path.exists():
            return open_packed(path)
        progress(f"fetching {self.name} ({split})", "rows")
        rows = self._rows(split)

        def decode(name: str) -> Pixels:
            image: dict[str, Any] | None = rows[int(name)][self.column]
            if image and image.get("bytes"):
                return decode_bytes(image["bytes"], self.fit)
            if image and image.get("path"):
                return decode_file(Path(image["path"]), self.fit)
            raise ImageError("is empty")

        names = [str(i) for i in range(len(rows))]
        report = progress(f"packing {self.name} ({split})", "images")
        return pack_into(path, names, decode, report, self._labels(rows, names))

    def _labels(self, rows: Dataset, names: Sequence[str]) -> dict[str, int]:
        """Returns the labels of all rows by name; none where no column holds whole numbers."""
        column = next((key for key in _LABEL_COLUMNS if key in rows.column_names), None)
        if column is None:
            return {}
        labels = rows[column]
        is_whole = all(isinstance(label, int) for label in labels)
        return dict(zip(names, labels, strict=True)) if is_whole else {}

    def _rows(self, split: str) -> Dataset:
        """Returns the rows of a split, whose images are dicts of `bytes` or `path`."""
        with _telling_of_the_hub(self.name):
            from datasets import Image, disable_progress_bars, load_dataset

            disable_progress_bars()
            rows = load_dataset(self.name, self.config, split=split, revision=self.revision)
        if self.column not in rows.column_names:
            known = did_you_mean(self.column, rows.column_names)
            raise DataError(f"{sanitize(self.name, 100)}: has no column '{sanitize(self.column)}'{known}")
        if not isinstance(rows.features[self.column], Image):
            raise DataError(f"{sanitize(self.name, 100)}: column '{self.column}' does not hold images")
        kept = [self.column, *(key for key in _LABEL_COLUMNS if key in rows.column_names)]
        return rows.select_columns(kept).cast_column(self.column, Image(decode=False))

    def _pack_path(self, split: str) -> Path:
        place = Path(self.name).absolute() if _is_folder(Path(self.name)) else self.name
        identity = repr((str(place), self.config, self.revision, self.column, split, astuple(self.fit)))
        return pack_path(f"hub {self.name} {split}", identity, "")


@contextmanager
def _telling_of_the_hub(name: str) -> Iterator[None]:
    """Says in one sentence what is wrong with a data set of the hub, or with the way to it."""
    try:
        yield
    except ImportError:
        raise DataError("source hub needs another package: pip install 'mixcoder[hub]'") from None
    except Exception as error:  # of many libraries: the hub's, arrow's, the network's
        reason = sanitize(first_line(error), 300)
        raise DataError(f"{sanitize(name, 100)}: cannot be had from the hub ({reason})") from error


def _is_folder(path: Path) -> bool:
    """Returns whether there is such a folder; none has a name that is too long, or that no file can have."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False
