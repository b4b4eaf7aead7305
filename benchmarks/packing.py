"""Peak memory of packing a folder of images once, and several times over: it must not grow with their number.

    python -m benchmarks.packing FOLDER [--times 8]

Each packing runs in a process of its own; its peak is that of the process less what it held before.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from multiprocessing.queues import Queue
from pathlib import Path

from mixcoder.data.store.image_listing import list_images
from mixcoder.data.store.image_store import pack
from mixcoder.pixels.codec import Fit, decode_file


def peak_of_packing(folder: Path, times: int, result: Queue[tuple[int, int, float, float]]) -> None:
    """Puts images, bytes packed, seconds, and mebibytes of memory that it took into `result`."""
    files = list_images(str(folder)).files
    names = {f"{copy}/{name}": path for copy in range(times) for name, path in files.items()}
    fit = Fit(3, 160, 96)
    before, start = _peak(), time.perf_counter()
    with tempfile.TemporaryDirectory() as target:
        path = Path(target) / "photos.safetensors"
        store = pack(path, list(names), lambda name: decode_file(names[name], fit), "benchmark")
        seconds = time.perf_counter() - start
        # the finished file is mapped and read whole for its checksum; those pages are the file's
        result.put((len(store), path.stat().st_size, seconds, _peak() - before))


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--times", type=int, default=8)
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    for times in (1, options.times):
        result = context.Queue()
        process = context.Process(target=peak_of_packing, args=(options.folder, times, result))
        process.start()
        images, size, seconds, memory = result.get()
        process.join()
        print(
            f"{images:,} images, {size / 2**20:,.0f} MiB packed in {seconds:.1f} s: "
            f"{memory:,.0f} MiB of memory at most"
        )


if __name__ == "__main__":
    main()
