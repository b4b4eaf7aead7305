"""Random crops a second: a DataLoader that opens image files, against the packed store.

    python -m benchmarks.crops FOLDER [--crop 96] [--batch 64] [--seconds 4] [--repeats 5]

The plain loader is what most people write: a Dataset that opens a file with Pillow, cuts a random crop and
makes a float tensor, behind a DataLoader with as many workers as there are cores. Both sides give batches
(B, 3, crop, crop) float32 in [0, 1] of the same files, in alternation; the median of the ratios counts. The
workers are started before the clock, and what packing takes once is told apart.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mixcoder.data.crops import CropSplit
from mixcoder.data.split import TrainingBatches, to_float
from mixcoder.data.store.image_listing import list_images
from mixcoder.data.store.image_store import pack
from mixcoder.pixels.codec import Fit, decode_file


class CropsOfFiles(Dataset[Tensor]):
    """A random crop (3, crop, crop) float32 in [0, 1] of an image file."""

    def __init__(self, paths: list[Path], crop: int) -> None:
        self.paths = paths
        self.crop = crop

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        with Image.open(self.paths[index]) as opened:
            image = opened.convert("RGB")
        top = int(torch.randint(image.height - self.crop + 1, ()))
        left = int(torch.randint(image.width - self.crop + 1, ()))
        cut = np.asarray(image.crop((left, top, left + self.crop, top + self.crop)))  # (crop, crop, 3)
        return torch.from_numpy(cut.copy()).permute(2, 0, 1).float() / 255  # (3, crop, crop)


def files_of(paths: list[Path], crop: int, batch: int) -> Iterator[Tensor]:
    """Endless batches of the plain loader."""
    loader = DataLoader(
        CropsOfFiles(paths, crop),
        batch_size=batch,
        shuffle=True,
        drop_last=True,
        num_workers=os.cpu_count() or 1,
        persistent_workers=True,
        prefetch_factor=4,
    )
    while True:
        yield from loader


def batches_of(split: CropSplit, batch: int) -> Iterator[Tensor]:
    """Endless batches of the packed store."""
    batches = TrainingBatches(split, batch, seed=0)
    step = 0
    while True:
        yield to_float(batches[step])
        step += 1


def crops_a_second(batches: Iterator[Tensor], seconds: float) -> float:
    """How many crops come in so many seconds; those that lie ready at the start are thrown away."""
    for _ in range(16):
        next(batches)
    count, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        count += len(next(batches))
    return count / elapsed


def timed(action: Callable[[], CropSplit]) -> tuple[CropSplit, float]:
    start = time.perf_counter()
    return action(), time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--crop", type=int, default=96)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    files = list_images(str(options.folder)).files
    fit = Fit(3, None, options.crop)

    with tempfile.TemporaryDirectory() as folder:

        def packed() -> CropSplit:
            path = Path(folder) / "photos.safetensors"
            store = pack(path, list(files), lambda name: decode_file(files[name], fit), "benchmark")
            return CropSplit.of(store, range(len(store)), (options.crop, options.crop))

        split, seconds = timed(packed)
        print(f"{len(split):,} images packed once in {seconds:.1f} s")
        plain = files_of(list(files.values()), options.crop, options.batch)
        ours = batches_of(split, options.batch)
        ratios = []
        for repeat in range(1, options.repeats + 1):
            slow = crops_a_second(plain, options.seconds)
            fast = crops_a_second(ours, options.seconds)
            ratios.append(fast / slow)
            speeds = f"DataLoader {slow:,.0f} crops/s, packed store {fast:,.0f} crops/s"
            print(f"{repeat}: {speeds}, {ratios[-1]:.0f} times")
        print(f"median ratio: {statistics.median(ratios):.0f}")


if __name__ == "__main__":
    main()
