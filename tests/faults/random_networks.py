"""Networks drawn at random: every model with all its arguments, and networks of `random_blocks`.

dice ─▶ draw ─▶ a case, as JSON has it ─▶ create_network ─▶ Autoencoder
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import torch
from torch import Tensor, nn

from mixcoder.models import MIXERS, Autoencoder, create_model
from mixcoder.models.activations import ACTIVATIONS, OUTPUT_ACTIVATIONS
from mixcoder.models.norms import NORMS
from mixcoder.models.patches import Grid, Patchify, Unpatchify
from mixcoder.models.pull_back import pull_back
from tests.faults.random_blocks import BLOCKS

Case = dict[str, Any]
"""What a network and its training follow from."""
BlockCase = dict[str, Any]
"""A block: its name, and the seed of its dice."""

SQUARES = (1, 4, 9, 16, 25, 36)
OPTIMIZERS = ("adamw", "adamw", "sgd", "muon")


def draw(dice: Random) -> Case:
    """A network, a batch and how it is trained."""
    kind = dice.choices(list(_DRAWN), [0.5, 0.15, 0.1, 0.1, 0.15])[0]
    arguments = _DRAWN[kind](dice)
    if kind != "own":  # which has refinements of its own
        arguments["refine"] = _draw_refinement(dice)
    shards = dice.choice([1, 1, 2, 3])
    optimizer = dice.choice(OPTIMIZERS)
    return {
        "kind": kind,
        "arguments": arguments,
        "seed": dice.randrange(2**31),
        "gain": dice.choice([0.7, 1.0, 1.0, 1.5]),
        "is_frozen": dice.random() < 0.05,
        "shards": shards,
        "batch_size": shards * dice.randint(1, 5),
        "loss": dice.choice(["mse", "mse", "l1", "huber"]),
        "precision": dice.choice(["float32", "float32", "float32", "bfloat16"]),
        "optimizer": optimizer,
        "weight_decay": dice.choice([None, 0.0, 0.3]),
        "vector_learning_rate": dice.choice([None, 0.001]) if optimizer == "muon" else None,
        "clip_norm": dice.choice([None, None, 0.02, 0.5]),
        "ema": dice.choice([None, None, 0.8]),
    }


def create_network(case: Case) -> Autoencoder:
    """The network of a case, with random values in all its parameters."""
    torch.manual_seed(case["seed"])
    given = case["arguments"]
    model: Autoencoder = OwnCode(**given) if case["kind"] == "own" else create_model(case["kind"], **given)
    with torch.no_grad():
        for parameter in model.parameters():  # those that begin as zeros or ones too
            parameter.mul_(case["gain"]).add_(torch.randn_like(parameter), alpha=0.05)
    if case["is_frozen"]:
        next(model.parameters()).requires_grad_(False)
    return model.train()


def create_images(case: Case, model: Autoencoder) -> Tensor:
    """A batch (B, C, H, W) uint8."""
    generator = torch.Generator().manual_seed(case["seed"])
    shape = case["batch_size"], *model.image_shape
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def _draw_grid(dice: Random) -> tuple[Grid, int, int]:
    """Rows and columns of patches, their side, and the channels of an image."""
    return (dice.randint(1, 4), dice.randint(1, 4)), dice.randint(1, 3), dice.choice([1, 1, 3])


def _draw_own(dice: Random) -> dict[str, Any]:
    (rows, columns), patch_size, depth = _draw_grid(dice)
    return {
        "image_shape": [depth, rows * patch_size, columns * patch_size],
        "patch_size": patch_size,
        "channels": dice.choice([1, 3, 4, 6, 8, 12, 16, 17, 32]),
        "latent_dim": dice.randint(1, 9),
        "encoder": [_draw_block(dice) for _ in range(dice.randint(0, 3))],
        "decoder": [_draw_block(dice) for _ in range(dice.randint(0, 3))],
        "output": dice.choice(["none", "none", *OUTPUT_ACTIVATIONS]),
        "refinements": dice.choice([0, 0, 0, 0, 1, 2]),
    }


def _draw_block(dice: Random) -> BlockCase:
    return {"block": dice.choice(list(BLOCKS)), "seed": dice.randrange(2**31)}


def _draw_mixer(dice: Random) -> dict[str, Any]:
    (rows, columns), patch_size, depth = _draw_grid(dice)
    mixer = dice.choice(list(MIXERS))
    channels = SQUARES if mixer.startswith("cnn2d") else range(1, 40)
    hidden = [dice.choice(channels) for _ in range(dice.randint(1, 3))]
    if dice.random() < 0.5:
        hidden[1:] = [hidden[0]] * len(hidden[1:])  # residual
    layers = range(1, len(hidden) + 1)
    return {
        "image_shape": [depth, rows * patch_size, columns * patch_size],
        "patch_size": patch_size,
        "hidden_channels": hidden,
        "latent_dim": dice.randint(1, 9),
        "mixer_at": [position for position in layers if dice.random() < 0.7],
        "mixer": _draw_part(dice, mixer, math.gcd(*hidden)),
        "kernel_size": dice.choice([1, 3, 5, 9]),
        "activation": dice.choice(list(ACTIVATIONS)),
        "encoder_mixer_activation": dice.choice([None, *ACTIVATIONS]),
        "norm": dice.choice(list(NORMS)),
        "residual_scale": dice.choice([None, None, 0.0, 0.7]),
        "output_activation": _draw_output(dice),
    }


def _draw_part(dice: Random, name: str, channels: int) -> str | dict[str, Any]:
    """A mixing layer, often with arguments, that takes any multiple of `channels`."""
    arguments: dict[str, Any] = {}
    if name in ("grouped", "kronecker", "depthwise") and dice.random() < 0.7:
        arguments["bias"] = dice.choice(["position", "channel", "none"])
    if name == "token_mlp" and dice.random() < 0.7:
        arguments["hidden"] = dice.randint(1, 20)
    if name == "grouped":
        arguments["groups"] = dice.choice(
            [groups for groups in range(1, channels + 1) if channels % groups == 0]
        )
    return {"name": name, **arguments} if arguments else name


def _draw_output(dice: Random) -> str | dict[str, Any]:
    name = dice.choice(list(OUTPUT_ACTIVATIONS))
    return {"name": name, "scale": 2.5, "offset": -0.5} if name == "sigmoid" else name


def _draw_refinement(dice: Random) -> dict[str, Any] | None:
    if dice.random() < 0.7:
        return None
    return {
        "steps": dice.choice([1, 1, 2]),
        "matrix": dice.choice(["full", "full", "diagonal"]),
        "first_step": dice.choice([0.05, 0.5]),
        "trust_radius": dice.choice([0.01, 1.0, 100.0]),
    }


def _draw_stack(dice: Random) -> dict[str, Any]:
    (rows, columns), patch_size, depth = _draw_grid(dice)
    code_channels = dice.choice(SQUARES)
    latent_dim = dice.choice([None, *range(1, 10)])
    return {
        "image_shape": [depth, rows * patch_size, columns * patch_size],
        "patch_size": patch_size,
        "latent_dim": latent_dim,
        "code_channels": code_channels,
        "encoder": _draw_layers(dice, dice.choice(SQUARES), 1, is_decoder=False),
        "decoder": _draw_layers(dice, code_channels, 1, is_decoder=True),
        "activation": dice.choice(list(ACTIVATIONS)),
        "norm": dice.choice(list(NORMS)),
        "residual_scale": dice.choice([None, 1.0, 0.3]),
        "output_bias": dice.choice(["position", "channel", "none"]),
        "output_activation": _draw_output(dice),
    }


def _draw_layers(dice: Random, channels: int, depth: int, is_decoder: bool) -> list[Any]:
    """Layers of a stack whose channels stay from the first one on; with lists of them, down to a depth."""
    layers: list[Any] = [{"channels": channels, "bias": dice.choice(["position", "channel", "none"])}]
    for _ in range(dice.randint(0, 3)):
        kind = dice.choice(["mixer", "mixer", "channels", "film", "repeat", "loop"])
        if kind in ("repeat", "loop") and depth:
            inner = _draw_layers(dice, channels, depth - 1, is_decoder)
            layers.append({kind: dice.randint(1, 2), "layers": inner})
        elif kind == "film" and is_decoder:
            layers.append("film")
        elif kind == "channels":
            layers.append({"channels": channels, "activation": dice.choice(list(ACTIVATIONS))})
        else:
            part = _draw_part(dice, dice.choice(list(MIXERS)), channels)
            layers.append({"mixer": part, "kernel_size": dice.choice([1, 3, 5])})
    return layers


def _draw_script(dice: Random) -> dict[str, Any]:
    steps = [f"ch={dice.randint(1, 12)}"]
    side = dice.randint(2, 8)
    for _ in range(dice.randint(0, 3)):
        steps.append(dice.choice(["ch*1", "ch*1", "ch*2", f"ch={dice.randint(1, 12)}", "scl=1", "scl=0"]))
    if side % 2 == 0:
        steps.insert(dice.randint(0, len(steps)), "down2")
    return {
        "image_shape": [dice.choice([1, 2, 3]), side, dice.choice([2, 4, 6, 8])],
        "script": "|".join([*steps, f"ch={dice.randint(1, 4)}"]),
        "kernel_size": dice.choice([1, 3, 3, 5]),
        "activation": dice.choice(list(ACTIVATIONS)),
    }


def _draw_cnn(dice: Random) -> dict[str, Any]:
    channels = [dice.randint(1, 12) for _ in range(dice.randint(1, 3))]
    kernel_size = dice.randint(1, 4)
    lost = len(channels) * (kernel_size - 1)
    return {
        "image_shape": [dice.choice([1, 2, 3]), lost + dice.randint(1, 5), lost + dice.randint(1, 5)],
        "channels": channels,
        "kernel_size": kernel_size,
        "latent_dim": dice.randint(1, 9),
        "activation": dice.choice(list(ACTIVATIONS)),
    }


_DRAWN: dict[str, Callable[[Random], dict[str, Any]]] = {
    "own": _draw_own,
    "mixer": _draw_mixer,
    "script": _draw_script,
    "cnn": _draw_cnn,
    "stack": _draw_stack,
}


class OwnCode(Autoencoder):
    """An auto-encoder of blocks on patches, whose code may be refined by the decoder's gradient."""

    def __init__(
        self,
        image_shape: Sequence[int],
        patch_size: int,
        channels: int,
        latent_dim: int,
        encoder: Sequence[BlockCase],
        decoder: Sequence[BlockCase],
        output: str,
        refinements: int,
    ) -> None:
        super().__init__()
        depth, height, width = image_shape
        self.image_shape, self.latent_shape = (depth, height, width), (latent_dim,)
        grid, pixels = (height // patch_size, width // patch_size), depth * patch_size**2
        elements = math.prod(grid) * channels
        self.refinements = refinements
        self.encoder = nn.Sequential(
            nn.Linear(pixels, channels), *_blocks(encoder, grid, channels), nn.Flatten()
        )
        self.to_latent = nn.Linear(elements, latent_dim)
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, elements),
            nn.Unflatten(1, (math.prod(grid), channels)),
            *_blocks(decoder, grid, channels),
            nn.Linear(channels, pixels),
            OUTPUT_ACTIVATIONS[output](),
        )
        self.step_size = nn.Parameter(torch.full((latent_dim,), 0.1))
        self.patchify, self.unpatchify = Patchify(patch_size), Unpatchify(self.image_shape, patch_size)

    def _encode(self, images: Tensor) -> Tensor:
        patches = self.patchify(images)
        latents: Tensor = self.to_latent(self.encoder(patches))

        def error_of(values: Tensor) -> Tensor:
            error: Tensor = values - patches
            return error

        for _ in range(self.refinements):
            latents = latents - self.step_size * pull_back(self.decoder, latents, error_of)
        return latents

    def _decode(self, latents: Tensor) -> Tensor:
        images: Tensor = self.unpatchify(self.decoder(latents))
        return images


def _blocks(cases: Sequence[BlockCase], grid: Grid, channels: int) -> list[nn.Module]:
    return [BLOCKS[case["block"]](grid, channels, Random(case["seed"])) for case in cases]
