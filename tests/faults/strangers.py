"""Model directories and archives from people who mean harm, made here, and a process that opens them all.

python -m tests.faults.strangers FOLDER     opens what `make_all` made there; prints a line of JSON for each
"""

from __future__ import annotations

import gzip
import json
import os
import pickle
import resource
import struct
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from tests.pace import yardstick

MODEL = {"image_shape": [1, 8, 8], "patch_size": 4, "hidden_channels": [4], "latent_dim": 3}
DESCRIPTION = {"format": 1, "type": "mixer", "arguments": MODEL}
MEMORY_TO_SPARE = 1 << 30
"""Bytes beyond what the process has when it has loaded torch: what nothing here may need."""


class Payload:
    """Executed by whoever unpickles it."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch '{self.canary}'",)


def described(**changes: Any) -> bytes:
    """A model.json with other arguments."""
    return json.dumps({**DESCRIPTION, "arguments": {**MODEL, **changes}}).encode()


def header(entries: dict[str, Any], body: bytes = b"") -> bytes:
    """A safetensors file with a header of one's own."""
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + body


def sound_weights() -> dict[str, torch.Tensor]:
    """The weights of `DESCRIPTION`."""
    from mixcoder import create_model

    return {name: value.clone() for name, value in create_model("mixer", **MODEL).state_dict().items()}


def make_all(folder: Path, canary: Path) -> None:
    """Fills `folder` with a directory or an archive for each way to do harm."""
    weights = sound_weights()
    sound = save(weights)
    first = next(iter(weights))
    pickled = pickle.dumps(Payload(canary))
    claim = {"dtype": "F32", "shape": [10**9, 10**9], "data_offsets": [0, 4 * 10**18]}
    script = {"image_shape": [1, 8, 8], "script": "scl=64|" + "|".join(["ch*1"] * 900)}
    descriptions: dict[str, bytes] = {
        "a pickle as description": pickled,
        "an unknown type": json.dumps({**DESCRIPTION, "type": "os.system"}).encode(),
        "a type that climbs out": json.dumps({**DESCRIPTION, "type": "../../etc/passwd"}).encode(),
        "a type that is a list": json.dumps({**DESCRIPTION, "type": ["mixer"]}).encode(),
        "deep nesting": b"[" * 200_000,
        "deep nesting of arguments": b'{"format": 1, "type": "mixer", "arguments": ' + b'{"a": ' * 100_000,
        "a long description": b'{"a": "' + b"x" * (64 << 20) + b'"}',
        "a number with a million digits": b'{"format": ' + b"9" * 1_000_000 + b"}",
        "not text": b"\xff\xfe\x00\x01",
        "a huge image": described(image_shape=[65_536, 65_536, 65_536], patch_size=1),
        "an image beyond numbers": described(image_shape=[10**30, 8, 8]),
        "huge layers": described(hidden_channels=[1_000_000] * 256),
        "a million layers": described(hidden_channels=[4] * 1_000_000),
        "a huge latent": described(image_shape=[3, 65_536, 65_536], patch_size=65_536, latent_dim=1_000_000),
        "huge mixing": described(image_shape=[1, 4096, 4096], patch_size=1, mixer="mlp", mixer_at=[1]),
        "a huge kernel": described(mixer="cnn2df", mixer_at=[1], kernel_size=99_999_999),
        "a huge kernel over a huge grid": described(
            image_shape=[1, 65_536, 65_536], patch_size=1, mixer="cnn2df", mixer_at=[1], kernel_size=999_999
        ),
        "a layer of a stranger": described(mixer="os.system", mixer_at=[1]),
        "words for numbers": described(latent_dim="3"),
        "no number": b'{"format": 1, "type": "mixer", "arguments": {"latent_dim": NaN}}',
        "a negative number": described(latent_dim=-3),
        "true for one": described(latent_dim=True),
        "sixty thousand convolutions": json.dumps(
            {"format": 1, "type": "script", "arguments": script}
        ).encode(),
    }
    files: dict[str, bytes] = {
        "a pickle as weights": pickled,
        "a torch file as weights": _torch_file(weights, folder),
        "no weights at all": b"",
        "half of the weights": sound[: len(sound) // 2],
        "a header beyond the file": struct.pack("<Q", 2**63 - 1) + b"{}",
        "a header of a gigabyte": struct.pack("<Q", 1 << 30) + b"{}",
        "a header that is not JSON": struct.pack("<Q", 4) + b"\xff\xff\xff\xff",
        "a deep header": struct.pack("<Q", 50_000) + b"[" * 50_000,
        "weights beyond the file": header(dict.fromkeys(weights, claim)),
        "weights that overlap": header(
            {name: {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} for name in weights}, bytes(16)
        ),
        "an unknown number type": header(
            {first: {"dtype": "F999", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)
        ),
        "a name that climbs out": save({"../../../evil": torch.zeros(3)}),
        "another type of numbers": save({name: value.double() for name, value in weights.items()}),
        "another shape": save({**weights, first: torch.zeros(2, 2)}),
        "one too few": save({name: value for name, value in weights.items() if name != first}),
        "one too many": save({**weights, "extra\n\x1b[2J": torch.zeros(1)}),
    }
    for name, content in descriptions.items():
        _make(folder / name, content, sound)
    for name, content in files.items():
        _make(folder / name, described(), content)
    for target in ("model.json", "model.safetensors"):
        for kind, create in _SPECIAL.items():
            place = folder / f"{target} is {kind}"
            _make(place, described(), sound)
            (place / target).unlink()
            create(place / target)
    only_pickle = folder / "only a pickle"
    only_pickle.mkdir()
    (only_pickle / "model.pt").write_bytes(pickled)
    _make_archives(folder)


_SPECIAL: dict[str, Callable[[Path], None]] = {
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a broken link": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path),
}


def _make(folder: Path, description: bytes, weights: bytes) -> None:
    folder.mkdir()
    (folder / "model.json").write_bytes(description)
    (folder / "model.safetensors").write_bytes(weights)


def _torch_file(weights: dict[str, torch.Tensor], folder: Path) -> bytes:
    path = folder / "x.pt"
    torch.save(weights, path)
    content = path.read_bytes()
    path.unlink()
    return content


def _make_archives(folder: Path) -> None:
    columns = "photo_id\tphoto_image_url\n"
    with zipfile.ZipFile(folder / "climbs out.zip", "w") as archive:
        archive.writestr("../../../outside/photos.tsv", columns)
    _make_archive(folder / "explodes.zip", columns, bytes(1 << 20), 2_048)
    _make_archive(folder / "explodes in lines.zip", columns, b"x\thttps://a.b/c\n" * 65_536, 64)
    (folder / "no archive.zip").write_bytes(b"PK\x03\x04" + bytes(100))
    shape = struct.pack(">IIII", 0x0803, 60_000, 28, 28)
    two_gigabytes = gzip.compress(bytes(1 << 26)) * 32  # members one after the other are one stream
    (folder / "explodes.idx3.gz").write_bytes(gzip.compress(shape) + two_gigabytes)
    with gzip.open(folder / "claims too much.idx3.gz", "wb") as file:
        file.write(struct.pack(">IIII", 0x0803, 2**32 - 1, 2**32 - 1, 2**32 - 1))


def _make_archive(path: Path, columns: str, block: bytes, blocks: int) -> None:
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("photos.tsv", "w", force_zip64=True) as table,
    ):
        table.write(columns.encode())
        for _ in range(blocks):
            table.write(block)


def limit_memory() -> None:
    """Lets this process take `MEMORY_TO_SPARE` more than it has, and nothing beyond."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_TO_SPARE,) * 2)


def open_all(folder: Path) -> None:
    """Opens each; says on a line what came of it. Runs in a process with little memory."""
    import mixcoder
    from mixcoder.data.sources.idx import read_idx
    from mixcoder.data.sources.photo_list import read_archive

    openers: dict[str, Callable[[Path], object]] = {
        ".zip": read_archive,
        ".gz": lambda path: read_idx(path, (60_000, 28, 28)),
    }
    mixcoder.create_model("mixer", **MODEL)
    limit_memory()
    measure = yardstick()
    for path in sorted(folder.iterdir()):
        start = time.process_time()
        try:
            openers.get(path.suffix, mixcoder.load)(path)
            kind, message = "opened", ""
        except Exception as error:
            kind, message = type(error).__name__, str(error)
        yardsticks = (time.process_time() - start) / measure
        print(
            json.dumps({"name": path.name, "kind": kind, "message": message, "yardsticks": yardsticks}),
            flush=True,
        )


if __name__ == "__main__":
    open_all(Path(sys.argv[1]))
