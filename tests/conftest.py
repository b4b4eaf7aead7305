"""What all tests share: one thread a worker, no network but the loopback, data where it is."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch
from hypothesis import settings
from torch import Tensor

from mixcoder.backends.build_cache import compiler_command
from mixcoder.data import SOURCES
from mixcoder.data.sources.mnist import Mnist
from mixcoder.data.split import ImageData, ImageSplit
from mixcoder.loggers import LOGGERS
from mixcoder.models import MIXERS, MODELS
from mixcoder.registry.registry import Registry
from mixcoder.training.optimizers import OPTIMIZERS
from mixcoder.training.schedules import SCHEDULES

torch.set_num_threads(1)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # of a suite that was started in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # or Ctrl-C would reach no process of a test
settings.register_profile("steady", deadline=None)  # a slow machine is no failure
settings.load_profile("steady")
if "MIXCODER_DATA" in os.environ:  # tests change their folder
    os.environ["MIXCODER_DATA"] = str(Path(os.environ["MIXCODER_DATA"]).absolute())

needs_compiler = pytest.mark.skipif(not shutil.which(compiler_command()[0]), reason="needs a C++ compiler")

slow = pytest.mark.slow
"""Of a test that takes seconds, or that is a further one of its kind; `make test` leaves it out."""

Cli = Callable[..., tuple[int, str, str]]


def slow_but(quick: int, cases: Iterable[Any]) -> list[Any]:
    """Returns the cases of a parametrized test, all but the first `quick` of them marked as slow."""
    return [case if i < quick else pytest.param(case, marks=slow) for i, case in enumerate(cases)]


_MADE_ONCE = {
    "browser": "site and browser",
    "site": "site and browser",
    "wheel": "wheel",
    "ray_cluster": "ray",
}
"""Fixtures that take seconds to make, and the group of their tests, which one worker runs."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Groups the tests that share what takes long to make, before `--dist loadgroup` looks at groups."""
    for item in items:
        groups = {_MADE_ONCE[name] for name in getattr(item, "fixturenames", ()) if name in _MADE_ONCE}
        for group in groups:
            item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(autouse=True)
def _only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that reaches for the network fails at once and by name."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise ConnectionRefusedError(f"tests do not go to {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


REGISTRIES: tuple[Registry[Any], ...] = (LOGGERS, MIXERS, MODELS, OPTIMIZERS, SCHEDULES, SOURCES)


@contextmanager
def own_registries() -> Iterator[None]:
    """What is registered within is gone after it."""
    kept = registered()
    yield
    register_again(kept)


def registered() -> list[dict[str, Any]]:
    """All entries of the registries."""
    return [dict(registry._entries) for registry in REGISTRIES]


def register_again(kept: list[dict[str, Any]]) -> None:
    """Makes entries of the registries those that `registered` returned."""
    for registry, entries in zip(REGISTRIES, kept, strict=True):
        registry._entries = entries


@pytest.fixture(autouse=True)
def _own_registries() -> Iterator[None]:
    """What a test registers is gone after it."""
    with own_registries():
        yield


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder and a cache with nothing in them; the data folder is returned."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("MIXCODER_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def mnist_folder() -> Path:
    """The real MNIST, where it is."""
    folder = Mnist().folder()
    if folder is None:
        pytest.skip("needs the real MNIST: set MIXCODER_DATA to the folder that holds mnist/")
    return folder.absolute()


@pytest.fixture
def tiny_data() -> ImageData:
    """Sixty grey 4 x 6 images with a bright bar that moves, made from a fixed seed."""
    generator = torch.Generator().manual_seed(7)
    images = torch.randint(0, 60, (60, 1, 4, 6), generator=generator, dtype=torch.uint8)
    for i, image in enumerate(images):
        image[:, :, i % 6] = 230
    return ImageData("tiny", ImageSplit(images[:45]), ImageSplit(images[45:]))


def training_images(data: ImageData) -> Tensor:
    """All images that batches are taken from, of data that holds them as they are."""
    assert isinstance(data.train, ImageSplit)
    return data.train.images


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    """A Chromium, where there is one, as playwright drives it."""
    from playwright.sync_api import sync_playwright

    paths = map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))
    path = next(filter(None, paths), None)
    if path is None:
        pytest.skip("needs a Chromium browser on the PATH")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """Runs the command line in an empty folder: `status, stdout, stderr = cli("run", "x.yml")`."""
    from mixcoder.cli.app import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        code = left.value.code
        return (code if isinstance(code, int) else 0), out, err

    return run
