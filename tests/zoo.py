"""A small model of every kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from mixcoder.experiments.runs.model_files import save_model
from mixcoder.models import Autoencoder, create_model

_MIXER = {"patch_size": 4, "hidden_channels": [9, 9], "latent_dim": 5, "mixer_at": [1, 2], "kernel_size": 3}
_STACK = {
    "patch_size": 2,
    "latent_dim": 5,
    "code_channels": 4,
    "encoder": [{"channels": 6, "bias": "position"}],
    "output_activation": {"name": "sigmoid", "scale": 8, "offset": -2},
}
_LAYERS: dict[str, list[Any]] = {
    "kronecker": [{"mixer": "kronecker"}, {"channels": 8}],
    "depthwise": [{"mixer": "depthwise", "kernel_size": 3}],
    "token_mlp": [{"mixer": "token_mlp"}],
    "grouped": [{"mixer": {"name": "grouped", "groups": 2}}],
    "film and a loop": ["film", {"loop": 2, "layers": [{"mixer": "kronecker"}, {"channels": 8}]}],
}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: ("mixer", {**_MIXER, "mixer": name}) for name in ("cnn", "cnnf", "cnn2d", "cnn2df", "mlp")},
    "listing": ("mixer", {**_MIXER, "encoder_mixer_activation": "none"}),
    "norm": ("mixer", {**_MIXER, "norm": "rms"}),
    "baseline": ("cnn", {"channels": [4, 4], "kernel_size": 3, "latent_dim": 5}),
    **{
        f"stack of {name}": ("stack", {**_STACK, "decoder": [{"channels": 8}, *layers]})
        for name, layers in _LAYERS.items()
    },
    "refined": (
        "stack",
        {**_STACK, "decoder": [{"channels": 8}, *_LAYERS["kronecker"]], "refine": {"steps": 2}},
    ),
    "script": ("script", {"script": "ch=8|down2|scl=1|ch*1|ch/2|ch=2", "kernel_size": 3}),
}
SHAPE = (3, 12, 8)


def build(kind: str, seed: int = 0) -> Autoencoder:
    """A model of that kind for images of `SHAPE`, with random weights."""
    torch.manual_seed(seed)
    name, arguments = KINDS[kind]
    return create_model(name, image_shape=SHAPE, **arguments).eval()


def save(kind: str, folder: Path, seed: int = 0) -> Autoencoder:
    """The same model, saved to a folder as a run does."""
    model = build(kind, seed)
    folder.mkdir(parents=True, exist_ok=True)
    save_model(folder, model, *KINDS[kind])
    return model
