"""Convolutional auto-encoders written as a script, such as `ch=32|down4|ch/2|ch/2|ch=1`.

    script  = step { "|" step }
    step    = "ch" ("=" | "*" | "/") number     convolution to that many channels + activation,
                                                plus the layer's own input where the number stays
            | "down" number                     PixelUnshuffle: (C, H, W) → (C·n·n, H/n, W/n)
            | "scl" "=" number                  n extra same-size convolutions, wrapped by a skip,
                                                before each convolution that follows

    images (B, C, H, W) ─▶ the steps in order ─▶ latents (B, c, h, w)
                        ◀─ the steps mirrored, ConvTranspose2d and PixelShuffle ◀─

Spaces and line breaks between the words do not matter. The encoder's last convolution and the decoder's
last have no activation.

Source: "MLP-Mixer re-invented for auto-encoding", "Increasing resolution"; the skip-connected triple
convolution (`scl=3`) is that of "Latent Space Characterization of Autoencoder Variants",
arXiv 2412.04755.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

from torch import Tensor, nn

from mixcoder.errors import ArgumentError, ScriptError
from mixcoder.models.activations import ActivationName, create_activation
from mixcoder.models.autoencoder import Autoencoder, check_image_shape
from mixcoder.models.factory import register_model
from mixcoder.models.patch_convolutions import same_padding
from mixcoder.pixels.shape import ImageShape
from mixcoder.text.sanitize import sanitize

_TOKEN = re.compile(
    r"\s*(?:(?P<word>[A-Za-z]+)|(?P<number>[0-9]+)|(?P<sign>[=*/|])|(?P<end>$)|(?P<other>.))", re.S
)
_MAX_NUMBER = 65_536
_MAX_SKIP_LAYERS = 64
_MAX_STEPS = 1_000
_MAX_CONVOLUTIONS = 512


# ── the language: text → steps ───────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Step:
    """One step of a script, with the place of its word and of its number in the text."""

    word: Literal["ch", "down", "scl"]
    sign: Literal["=", "*", "/", ""]
    number: int
    position: int
    number_position: int


class _Token(NamedTuple):
    kind: str
    text: str
    position: int


def parse_script(script: str) -> list[Step]:
    """Returns the steps of a script.

    Raises:
        ScriptError: with a caret under the character that is wrong, and what was expected there.
    """
    return list(_Parser(script).steps())


class _Parser:
    """A recursive descent over the tokens of one script, one method a rule of the grammar."""

    def __init__(self, script: str) -> None:
        self.script = script
        self.tokens = _tokens(script)
        self.token = next(self.tokens)

    def steps(self) -> Iterator[Step]:
        yield self.step()
        count = 1
        while self.token.text == "|":
            self.take()
            yield self.step()
            count += 1
            if count > _MAX_STEPS:
                raise ScriptError(f"has more than {_MAX_STEPS:,} steps", self.script, self.token.position)
        if self.token.kind != "end":
            self.fail("'|' or the end")

    def step(self) -> Step:
        if self.token.text not in ("ch", "down", "scl"):
            self.fail("'ch', 'down' or 'scl'")
        word = self.take()
        sign = self.sign(word.text)
        if self.token.kind != "number":
            self.fail("a whole number")
        number = self.take()
        lowest, highest = (0, _MAX_SKIP_LAYERS) if word.text == "scl" else (1, _MAX_NUMBER)
        if len(number.text) > 5 or not lowest <= int(number.text) <= highest:
            raise ScriptError(
                f"expected a number from {lowest} to {highest}, found {number.text[:20]}",
                self.script,
                number.position,
            )
        return Step(word.text, sign, int(number.text), word.position, number.position)  # type: ignore[arg-type]

    def sign(self, word: str) -> str:
        expected = {"ch": ("=", "*", "/"), "scl": ("=",), "down": ()}[word]
        if not expected:
            return ""
        if self.token.text not in expected:
            self.fail(" or ".join(f"'{sign}'" for sign in expected))
        return self.take().text

    def take(self) -> _Token:
        taken, self.token = self.token, next(self.tokens)
        return taken

    def fail(self, expected: str) -> None:
        found = f"'{sanitize(self.token.text, 20)}'" if self.token.text else "the end"
        raise ScriptError(f"expected {expected}, found {found}", self.script, self.token.position)


def _tokens(script: str) -> Iterator[_Token]:
    for match in _TOKEN.finditer(script):
        kind = match.lastgroup or "end"
        yield _Token(kind, match.group(kind), match.start(kind))
    while True:
        yield _Token("end", "", len(script.rstrip()))


# ── the plan: steps → stages that fit an image ───────────────────────────────────────────────────────


@dataclass(frozen=True)
class Convolution:
    """A convolution from `in_channels` to `out_channels` after `skip_layers` same-size ones."""

    in_channels: int
    out_channels: int
    skip_layers: int


@dataclass(frozen=True)
class Downscale:
    """A PixelUnshuffle by `factor`."""

    factor: int


Stage = Convolution | Downscale


def plan_script(script: str, image_shape: ImageShape) -> tuple[list[Stage], tuple[int, int, int]]:
    """Returns the stages of a script for images (C, H, W), and the shape (c, h, w) of the latents.

    Raises:
        ScriptError: a step that does not fit, with the numbers that clash and those that would fit.
    """
    channels, height, width = image_shape
    skip_layers = convolutions = 0
    stages: list[Stage] = []
    for step in parse_script(script):
        if step.word == "scl":
            skip_layers = step.number
        elif step.word == "down":
            if height % step.number or width % step.number:
                raise ScriptError(_does_not_divide(step.number, height, width), script, step.number_position)
            stages.append(Downscale(step.number))
            channels, height, width = channels * step.number**2, height // step.number, width // step.number
        else:
            out_channels = _changed_channels(channels, step, script)
            stages.append(Convolution(channels, out_channels, skip_layers))
            channels, convolutions = out_channels, convolutions + 1 + skip_layers
            if convolutions > _MAX_CONVOLUTIONS:
                raise ScriptError(f"has more than {_MAX_CONVOLUTIONS} convolutions", script, step.position)
    if not any(isinstance(stage, Convolution) for stage in stages):
        raise ArgumentError("script", "has no convolution to train; add one, such as 'ch=1'")
    return stages, (channels, height, width)


def _changed_channels(channels: int, step: Step, script: str) -> int:
    if step.sign == "/" and channels % step.number:
        fitting = [n for n in range(2, min(channels, 64) + 1) if channels % n == 0]
        raise ScriptError(
            f"{channels} channels cannot be divided by {step.number}; "
            f"divisors are {', '.join(map(str, fitting)) or 'none but 1'}",
            script,
            step.number_position,
        )
    changed = {"=": step.number, "*": channels * step.number, "/": channels // step.number}[step.sign]
    if changed > _MAX_NUMBER:
        raise ScriptError(
            f"{changed} channels are more than the {_MAX_NUMBER} allowed", script, step.number_position
        )
    return changed


def _does_not_divide(factor: int, height: int, width: int) -> str:
    fitting = [n for n in range(2, min(height, width) + 1) if height % n == width % n == 0]
    return (
        f"a picture of {height} x {width} cannot be scaled down by {factor}; "
        f"factors that fit: {', '.join(map(str, fitting)) or 'none'}"
    )


# ── the network: stages → modules ────────────────────────────────────────────────────────────────────


class ScriptLayer(nn.Module):
    """A stack of same-size convolutions with a skip around them, then one to `out_channels`: (B, C, H, W).

    x ──[conv, act] · skip_layers──▶ + x ──conv──▶ act ──▶ + x where the channels stay
    """

    def __init__(
        self,
        conv_class: type[nn.Conv2d] | type[nn.ConvTranspose2d],
        stage: Convolution,
        kernel_size: int,
        skip_activation: str,
        activation: str,
    ) -> None:
        super().__init__()
        padding = same_padding(kernel_size)
        channels = stage.in_channels
        self.skip = nn.Sequential()
        for _ in range(stage.skip_layers):
            self.skip.append(conv_class(channels, channels, kernel_size, padding=padding))
            self.skip.append(create_activation(skip_activation))
        self.conv = conv_class(channels, stage.out_channels, kernel_size, padding=padding)
        self.act = create_activation(activation)
        self.residual = stage.in_channels == stage.out_channels

    def forward(self, x: Tensor) -> Tensor:
        skipped = x + self.skip(x) if len(self.skip) else x
        y: Tensor = self.act(self.conv(skipped))
        return x + y if self.residual else y

    def extra_repr(self) -> str:
        return f"residual={self.residual}"


@register_model("script")
class ScriptAutoencoder(Autoencoder):
    """A fully convolutional auto-encoder stated in the article's script language.

    It takes images of any size that the script's `down` factors divide; `image_shape` is the one it is
    trained on.

    Args:
        image_shape: (C, H, W).
        script: the steps of the encoder in the script language; the decoder mirrors them.
        kernel_size: of every convolution, odd.
        activation: after every convolution but the encoder's last and the decoder's last.

    Raises:
        ScriptError: with a caret under the character that is wrong.
    """

    example: ClassVar[Mapping[str, Any]] = {
        "image_shape": (3, 96, 96),
        "script": "ch=32|down4|ch/2|ch/2|ch/2|ch*1|ch*1|ch=1",
    }
    sized_by = ("script",)

    def __init__(
        self,
        image_shape: Sequence[int],
        script: str,
        kernel_size: int = 3,
        activation: ActivationName = "relu6",
    ) -> None:
        super().__init__()
        self.image_shape = check_image_shape(image_shape)
        create_activation(activation)  # a script of one convolution would not look it up
        stages, self.latent_shape = plan_script(script, self.image_shape)
        self.down_factor = self.image_shape[1] // self.latent_shape[1]
        last = max(i for i, stage in enumerate(stages) if isinstance(stage, Convolution))
        first = min(i for i, stage in enumerate(stages) if isinstance(stage, Convolution))

        self.encoder = nn.Sequential()
        for i, stage in enumerate(stages):
            if isinstance(stage, Downscale):
                self.encoder.append(nn.PixelUnshuffle(stage.factor))
                continue
            final = "none" if i == last else activation
            self.encoder.append(ScriptLayer(nn.Conv2d, stage, kernel_size, activation, final))

        self.decoder = nn.Sequential()
        for i, stage in reversed(list(enumerate(stages))):
            if isinstance(stage, Downscale):
                self.decoder.append(nn.PixelShuffle(stage.factor))
                continue
            final = "none" if i == first else activation
            mirrored = Convolution(stage.out_channels, stage.in_channels, stage.skip_layers)
            self.decoder.append(ScriptLayer(nn.ConvTranspose2d, mirrored, kernel_size, activation, final))

    def _encode(self, images: Tensor) -> Tensor:
        latents: Tensor = self.encoder(images)  # (B, c, h, w)
        return latents

    def _decode(self, latents: Tensor) -> Tensor:
        images: Tensor = self.decoder(latents)  # (B, C, H, W)
        return images

    def _check_images(self, images: Tensor) -> None:
        channels, factor = self.image_shape[0], self.down_factor
        if (
            images.ndim != 4
            or images.shape[1] != channels
            or images.shape[2] % factor
            or images.shape[3] % factor
        ):
            raise ArgumentError(
                "",
                f"images must have shape (B, {channels}, H, W) with H and W divisible by {factor}, "
                f"got {tuple(images.shape)}",
            )

    def _check_latents(self, latents: Tensor) -> None:
        if latents.ndim != 4 or latents.shape[1] != self.latent_shape[0]:
            raise ArgumentError(
                "", f"latents must have shape (B, {self.latent_shape[0]}, h, w), got {tuple(latents.shape)}"
            )
