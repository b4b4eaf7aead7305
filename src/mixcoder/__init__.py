"""Mixcoder: build, train and compare small image auto-encoders.

    data = mixcoder.load_data("digits")
    model = mixcoder.create_model("mixer", image_shape=data.image_shape, patch_size=2, …)
    mixcoder.train(model, data, inputs=100_000)

Everything below is loaded when it is first used, so that `import mixcoder` is instant.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mixcoder.data import DataSource, ImageData, ImageSplit, images, load_data, register_source
    from mixcoder.errors import MixcoderError
    from mixcoder.experiments.runs.run_directory import load
    from mixcoder.export.onnx import export_onnx
    from mixcoder.inference import Codes, Score, decode, encode, score, walk
    from mixcoder.inference.reconstruction import reconstruction_grid
    from mixcoder.loggers import Logger, register_logger
    from mixcoder.models import Autoencoder, MixingLayer, create_model, register_mixer, register_model
    from mixcoder.models.pull_back import pull_back
    from mixcoder.programs.history import History
    from mixcoder.programs.saving import save
    from mixcoder.programs.trainer import Trainer, train
    from mixcoder.training.optimizers import register_optimizer
    from mixcoder.training.schedules import register_schedule
    from mixcoder.training.training_loop import Progress

__version__ = "0.1.0"

_HOMES = {
    "Autoencoder": "mixcoder.models",
    "Codes": "mixcoder.inference",
    "DataSource": "mixcoder.data",
    "History": "mixcoder.programs.history",
    "ImageData": "mixcoder.data",
    "ImageSplit": "mixcoder.data",
    "Logger": "mixcoder.loggers",
    "MixcoderError": "mixcoder.errors",
    "MixingLayer": "mixcoder.models",
    "Progress": "mixcoder.training.training_loop",
    "Score": "mixcoder.inference",
    "Trainer": "mixcoder.programs.trainer",
    "create_model": "mixcoder.models",
    "decode": "mixcoder.inference",
    "encode": "mixcoder.inference",
    "export_onnx": "mixcoder.export.onnx",
    "images": "mixcoder.data",
    "load": "mixcoder.experiments.runs.run_directory",
    "load_data": "mixcoder.data",
    "pull_back": "mixcoder.models.pull_back",
    "reconstruction_grid": "mixcoder.inference.reconstruction",
    "register_logger": "mixcoder.loggers",
    "register_mixer": "mixcoder.models",
    "register_model": "mixcoder.models",
    "register_optimizer": "mixcoder.training.optimizers",
    "register_schedule": "mixcoder.training.schedules",
    "register_source": "mixcoder.data",
    "save": "mixcoder.programs.saving",
    "score": "mixcoder.inference",
    "train": "mixcoder.programs.trainer",
    "walk": "mixcoder.inference",
}

__all__ = [
    "Autoencoder",
    "Codes",
    "DataSource",
    "History",
    "ImageData",
    "ImageSplit",
    "Logger",
    "MixcoderError",
    "MixingLayer",
    "Progress",
    "Score",
    "Trainer",
    "create_model",
    "decode",
    "encode",
    "export_onnx",
    "images",
    "load",
    "load_data",
    "pull_back",
    "reconstruction_grid",
    "register_logger",
    "register_mixer",
    "register_model",
    "register_optimizer",
    "register_schedule",
    "register_source",
    "save",
    "score",
    "train",
    "walk",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mixcoder' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, *(name for name in globals() if name.startswith("__"))])
