# mypy: disable-error-code="no-any-return,no-untyped-call"
"""Blocks (B, P, C) → (B, P, C) as users write them, each in one of several spellings that dice choose.

Native steps run their `forward` as it stands: what counts here is the variety of torch's functions, layouts
and broadcasts, not what a network learns.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from mixcoder.models.activations import ACTIVATIONS, Clamp
from mixcoder.models.patches import Grid, patch_major

Function = Callable[[Tensor], Tensor]

FUNCTIONS: dict[str, Function] = {
    "F.gelu": F.gelu,
    "F.gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
    "F.relu": F.relu,
    "x.relu": lambda x: x.relu(),
    "F.silu": F.silu,
    "torch.tanh": torch.tanh,
    "x.sigmoid": lambda x: x.sigmoid(),
    "F.leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "F.elu": F.elu,
    "F.hardtanh": F.hardtanh,
    "F.relu6": F.relu6,
    "F.softplus": F.softplus,
    "F.mish": F.mish,
    "F.hardswish": F.hardswish,
    "squared relu": lambda x: F.relu(x) ** 2,
    "sine": torch.sin,
}
RARE = ("F.softplus", "F.mish", "F.hardswish", "sine")


def draw_activation(dice: Random) -> nn.Module | Function:
    """An activation, as a module or as a function."""
    if dice.random() < 0.5:
        return ACTIVATIONS[dice.choice(list(ACTIVATIONS))]()
    common = [name for name in FUNCTIONS if name not in RARE]
    return FUNCTIONS[dice.choice(common if dice.random() < 0.8 else RARE)]


def random_parameter(*shape: int, std: float = 1.0) -> nn.Parameter:
    """Of this shape and standard deviation."""
    return nn.Parameter(torch.randn(shape) * std)


class Block(nn.Module):
    """A block; a subclass chooses in `draw` what it is, and has `forward`.

    Args:
        grid: rows and columns of patches, P = rows·columns.
        channels: C.
        dice: that choose among the spellings.
    """

    def __init__(self, grid: Grid, channels: int, dice: Random) -> None:
        super().__init__()
        self.grid, self.channels, self.patches = grid, channels, math.prod(grid)
        self.draw(dice)

    def draw(self, dice: Random) -> None:
        """Creates parameters, and chooses a spelling."""

    def head_count(self, dice: Random) -> int:
        """A number of heads or groups that divides the channels."""
        return dice.choice([n for n in range(1, 5) if self.channels % n == 0])


class LinearOnPatches(Block):
    def draw(self, dice: Random) -> None:
        c = self.channels
        self.spelling = dice.randrange(7)
        self.is_residual = dice.random() < 0.6
        self.act = draw_activation(dice)
        self.linear = nn.Linear(c, c, bias=dice.random() < 0.7)
        self.bias = random_parameter(*dice.choice([(c,), (self.patches, c), (self.patches, 1), (1,)]))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.linear.weight
        match self.spelling:
            case 0:
                y = self.linear(x)
            case 1:
                y = F.linear(x, weight, self.linear.bias) + self.bias
            case 2:
                y = x @ weight.t() + self.bias
            case 3:
                y = torch.einsum("bpc,dc->bpd", x, weight) + self.bias
            case 4:
                y = (x.transpose(0, 1) @ weight.T).transpose(0, 1) + self.bias
            case 5:
                y = torch.matmul(x.reshape(-1, self.channels), weight).reshape(x.shape)
            case _:
                y = self.linear(patch_major(x)) - self.bias
        y = self.act(y)
        return x + y if self.is_residual else y


class TokenMatrix(Block):
    def draw(self, dice: Random) -> None:
        p = self.patches
        self.spelling = dice.randrange(7)
        self.act = draw_activation(dice)
        self.linear = nn.Linear(p, p)
        self.conv = nn.Conv1d(p, p, 1)
        self.bias = random_parameter(*dice.choice([(p, self.channels), (p, 1), (self.channels,)]))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.linear.weight
        match self.spelling:
            case 0:
                y = self.linear(x.transpose(1, 2)).transpose(1, 2)
            case 1:
                y = weight @ x + self.bias
            case 2:
                y = torch.einsum("pq,bqc->bpc", weight, x) + self.bias
            case 3:
                y = self.conv(x)
            case 4:
                columns = x.transpose(0, 1).reshape(self.patches, -1)  # (P, B·C)
                y = (weight @ columns).reshape(self.patches, len(x), -1).transpose(0, 1)
            case 5:
                y = (x.permute(0, 2, 1) @ weight).movedim(1, 2) + self.bias
            case _:
                y = torch.matmul(weight.t(), x)
        return x + self.act(y)


class Widened(Block):
    def draw(self, dice: Random) -> None:
        wide = dice.randint(1, 3 * self.channels)
        self.up, self.down = nn.Linear(self.channels, wide), nn.Linear(wide, self.channels, bias=False)
        self.act = draw_activation(dice)
        self.scale = random_parameter(*dice.choice([(1,), (self.channels,)]))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.scale * self.down(self.act(self.up(x)))


class Normed(Block):
    def draw(self, dice: Random) -> None:
        self.spelling = dice.randrange(9)
        self.layer, self.rms = nn.LayerNorm(self.channels), nn.RMSNorm(self.channels)
        self.both = nn.LayerNorm((self.patches, self.channels))
        self.gain = random_parameter(self.channels)

    def forward(self, x: Tensor) -> Tensor:
        match self.spelling:
            case 0:
                return self.layer(x)
            case 1:
                return self.rms(x)
            case 2:
                return x * (x.pow(2).mean(-1, keepdim=True) + 1e-3).rsqrt() * self.gain
            case 3:
                centred = x - x.mean(dim=-1, keepdim=True)
                return centred / torch.sqrt((centred * centred).mean(-1, keepdim=True) + 1e-3)
            case 4:
                return F.layer_norm(x, (self.channels,))
            case 5:
                return self.layer(x.transpose(0, 1)).transpose(0, 1)
            case 6:
                return x + F.rms_norm(x, (self.channels,), self.gain, 1e-5)
            case 7:
                return self.both(x)
            case _:
                return self.layer(x + 1) + self.rms(x)


class Gated(Block):
    def draw(self, dice: Random) -> None:
        self.spelling = dice.randrange(6)
        self.twice = nn.Linear(self.channels, 2 * self.channels)
        self.out = nn.Linear(self.channels, self.channels)
        self.tokens = nn.Linear(self.patches, self.patches)
        self.act = draw_activation(dice)

    def forward(self, x: Tensor) -> Tensor:
        y = self.twice(x)
        match self.spelling:
            case 0:
                value, gate = y.chunk(2, dim=-1)
                y = value * torch.sigmoid(gate)
            case 1:
                y = F.glu(y, dim=-1)
            case 2:
                value, gate = y.split(self.channels, dim=2)
                y = F.silu(gate) * value
            case 3:
                value, gate = torch.chunk(y, 2, -1)
                y = value * self.tokens(gate.transpose(1, 2)).transpose(1, 2)
            case 4:
                y = self.act(y[..., : self.channels]) * y[..., self.channels :]
            case _:
                value, gate = y.unflatten(-1, (2, self.channels)).unbind(2)
                y = value * (1 + self.act(gate))
        return x + self.out(y)


class Shifted(Block):
    def draw(self, dice: Random) -> None:
        self.spelling = dice.randrange(8)
        self.by = dice.choice([-2, -1, 1, 2])
        self.module = nn.Linear(self.channels, self.channels)
        self.act = draw_activation(dice)

    def forward(self, x: Tensor) -> Tensor:
        match self.spelling:
            case 0:
                y = x.roll(self.by, dims=1)
            case 1:
                y = torch.roll(x, (self.by, 1), dims=(1, 2))
            case 2:
                y = F.pad(x, (0, 0, 1, 1))[:, 2:]
            case 3:
                y = F.pad(x, (2, 1)).narrow(2, 0, self.channels)
            case 4:
                y = torch.cat([x[:, -1:], x[:, :-1]], dim=1)
            case 5:
                half = self.channels // 2
                y = torch.cat((x[..., :half].roll(1, 1), x[..., half:].roll(-1, 1)), dim=-1)
            case 6:
                field = x.reshape(len(x), *self.grid, self.channels)
                y = field.roll((1, self.by), dims=(1, 2)).flatten(1, 2)
            case _:
                y = x.flip(1)
        return x + self.act(self.module(y))


class SelfAttention(Block):
    def draw(self, dice: Random) -> None:
        self.spelling = dice.randrange(5)
        self.heads = self.head_count(dice)
        self.qkv = nn.Linear(self.channels, 3 * self.channels, bias=dice.random() < 0.5)
        self.out = nn.Linear(self.channels, self.channels)

    def forward(self, x: Tensor) -> Tensor:
        size = self.channels // self.heads
        heads = self.qkv(x).reshape(len(x), self.patches, 3, self.heads, size)
        q, k, v = heads.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, P, size)
        match self.spelling:
            case 0:
                y = (q @ k.transpose(-2, -1) / math.sqrt(size)).softmax(dim=-1) @ v
            case 1:
                y = F.scaled_dot_product_attention(q, k, v)
            case 2:
                y = F.softmax(torch.einsum("bhpc,bhqc->bhpq", q, k) * size**-0.5, dim=-1) @ v
            case 3:
                q, k = F.elu(q) + 1, F.elu(k) + 1
                y = q @ (k.transpose(-2, -1) @ v) / (q @ k.sum(2).unsqueeze(-1) + 1e-3)
            case _:
                y = torch.einsum("bhpq,bhqc->bhpc", torch.sigmoid(q @ k.mT - 1), v)
        return x + self.out(y.transpose(1, 2).reshape(x.shape))


class GridConvolution(Block):
    def draw(self, dice: Random) -> None:
        c, self.spelling, taps = self.channels, dice.randrange(6), dice.choice([1, 3, 3, 5])
        has_bias, groups = dice.random() < 0.7, self.head_count(dice)
        self.depthwise = nn.Conv2d(c, c, taps, padding=taps // 2, groups=c, bias=has_bias)
        self.grouped = nn.Conv2d(c, c, taps, padding="same", groups=groups, bias=has_bias)
        self.tokens = nn.Conv1d(c, c, taps, padding=taps // 2, groups=groups, bias=has_bias)
        self.along = nn.Conv1d(self.patches, self.patches, taps, padding=taps // 2, groups=self.patches)
        self.act = draw_activation(dice)

    def forward(self, x: Tensor) -> Tensor:
        field = x.transpose(1, 2).reshape(len(x), self.channels, *self.grid)  # (B, C, rows, columns)
        match self.spelling:
            case 0:
                y = self.depthwise(field).flatten(2).transpose(1, 2)
            case 1:
                y = self.grouped(field).flatten(2).transpose(1, 2)
            case 2:
                y = self.tokens(x.transpose(1, 2)).transpose(1, 2)
            case 3:
                y = self.along(x)
            case 4:
                y = F.conv2d(field, self.grouped.weight[:, :, :1, :1], groups=self.grouped.groups)
                y = y.flatten(2).permute(0, 2, 1)
            case _:
                y = F.avg_pool2d(field, 3, stride=1, padding=1).flatten(2).transpose(1, 2)
        return x + self.act(y)


class Windowed(Block):
    """A convolution of any stride over the grid, and a transposed one back."""

    def draw(self, dice: Random) -> None:
        c = self.channels
        hidden, groups = dice.choice([(c, 1), (20, 1), (3 * c, 1), (c, c), (2 * c, c)])
        axes: Any = zip(*(_draw_window(dice, size) for size in self.grid), strict=True)
        taps, stride, padding, rest = axes
        self.down = nn.Conv2d(c, hidden, taps, stride, padding, groups=groups)
        self.up = nn.ConvTranspose2d(hidden, c, taps, stride, padding, rest, groups=groups)
        self.act = draw_activation(dice)

    def forward(self, x: Tensor) -> Tensor:
        field = x.transpose(1, 2).reshape(len(x), self.channels, *self.grid)
        return x + self.up(self.act(self.down(field))).flatten(2).transpose(1, 2)


def _draw_window(dice: Random, size: int) -> tuple[int, int, int, int]:
    """Taps, stride and padding along an axis, and what a transposed convolution then lacks of its size."""
    taps, stride = dice.randint(1, min(4, size)), dice.choice([1, 1, 2, 3])
    padding = dice.randrange(taps)
    return taps, stride, padding, (size + 2 * padding - taps) % stride


class Modulated(Block):
    def draw(self, dice: Random) -> None:
        self.spelling = dice.randrange(5)
        self.twice = nn.Linear(self.channels, 2 * self.channels)
        self.once = nn.Linear(self.channels, self.channels)

    def forward(self, x: Tensor) -> Tensor:
        match self.spelling:
            case 0:
                scale, shift = self.twice(x.mean(1)).chunk(2, dim=1)
                return x * (1 + scale.unsqueeze(1)) + shift[:, None]
            case 1:
                return x * self.once(x.mean(dim=1, keepdim=True)).sigmoid()
            case 2:
                scale, shift = self.twice(x.sum(1, keepdim=True) / self.patches).split(self.channels, -1)
                return torch.addcmul(shift.expand_as(x), x, scale)
            case 3:
                return x + self.once(x.mean(dim=(1,), keepdim=True).expand(-1, self.patches, -1))
            case _:
                first = self.once(x[:, 0])
                return x - first.view(len(x), 1, self.channels).repeat(1, self.patches, 1)


class ScaledAndShifted(Block):
    def draw(self, dice: Random) -> None:
        p, c = self.patches, self.channels
        shapes = [(c,), (p, 1), (p, c), (1, p, c), (1,), ()]
        self.scale, self.shift = (random_parameter(*dice.choice(shapes)) for _ in range(2))
        self.spelling = dice.randrange(5)

    def forward(self, x: Tensor) -> Tensor:
        match self.spelling:
            case 0:
                return x * self.scale + self.shift
            case 1:
                return torch.add(x.mul(self.scale), self.shift, alpha=0.5)
            case 2:
                return (1 - self.scale) * x - 2 * self.shift
            case 3:
                return x / (1 + self.scale**2) - self.shift
            case _:
                return self.shift.sigmoid() * x + (1 - self.shift.sigmoid()) * x.tanh()


class Arithmetic(Block):
    def draw(self, dice: Random) -> None:
        self.spelling = dice.randrange(13)
        self.gain = random_parameter(self.channels)

    def forward(self, x: Tensor) -> Tensor:
        match self.spelling:
            case 0:
                return x / (1 + x.abs())
            case 1:
                return torch.sqrt(x * x + 1)
            case 2:
                return x * torch.exp(-(x**2))
            case 3:
                return torch.log1p(x.square()) + x
            case 4:
                return torch.maximum(x, self.gain * x)
            case 5:
                return torch.where(x > 0, x, self.gain * x)
            case 6:
                return -x + 0.1 * x.pow(3).tanh()
            case 7:
                return torch.stack([x, self.gain * x], dim=-1).mean(-1)
            case 8:
                return torch.rsub(x.sub(self.gain).neg(), 1)
            case 9:
                return 1.5 / (2 + torch.cos(x))
            case 10:
                return torch.minimum(x, self.gain).exp().clamp(max=3)
            case 11:  # infinite where it is not chosen
                y = self.gain * x
                return torch.where(x > 1, y + x.detach().relu().log(), y)
            case _:
                return torch.lerp(x, x.tanh(), 0.3)


class Clamped(Block):
    def draw(self, dice: Random) -> None:
        self.spelling = dice.randrange(6)
        self.clamp = Clamp()
        self.linear = nn.Linear(self.channels, self.channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear(x)
        match self.spelling:
            case 0:
                return self.clamp(y)
            case 1:
                return y.clamp(-0.5, 0.7)
            case 2:
                return torch.clamp(y, min=0.1) + x
            case 3:
                return F.hardtanh(y, -0.3, 0.4)
            case 4:
                return y.clamp_max(0.5) + y.clamp_min(-0.25)
            case _:
                clipped = y.clamp(0, 1)
                return clipped + 0.1 * (y - clipped)


class Rearranged(Block):
    def draw(self, dice: Random) -> None:
        self.spelling = dice.randrange(10)
        self.module = nn.Linear(self.channels, self.channels)

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self.grid
        match self.spelling:
            case 0:
                y = x.unflatten(1, self.grid).transpose(1, 2).flatten(1, 2)
            case 1:
                y = torch.stack(x.unbind(1)[::-1], dim=1)
            case 2:
                y = torch.cat(x.split(1, dim=1)[::-1], 1)
            case 3:
                y = torch.cat([x[:, ::2], x[:, 1::2]], dim=1)
            case 4:
                y = (
                    x.permute(1, 2, 0)
                    .contiguous()
                    .view(self.patches, -1)
                    .reshape(*x.shape[1:], -1)
                    .movedim(2, 0)
                )
            case 5:
                y = (
                    x.reshape(len(x), rows, columns, 1, self.channels)
                    .squeeze(3)
                    .swapaxes(1, 2)
                    .reshape(x.shape)
                )
            case 6:
                y = x.reshape(len(x), self.channels, self.patches).mT
            case 7:
                y = x.contiguous().view(*x.shape)
            case 8:
                y = x.unsqueeze(1).expand(-1, 2, -1, -1).sum(1)
            case _:
                y = torch.cat([x, x.flatten(1).unsqueeze(1).reshape(x.shape)], dim=2)[
                    ..., 1 : 1 + self.channels
                ]
        return x + self.module(y)


class Unshuffled(Block):
    def draw(self, dice: Random) -> None:
        self.is_even = all(size % 2 == 0 for size in self.grid)
        self.conv = nn.Conv2d(4 * self.channels, 4 * self.channels, 1, groups=self.channels)
        self.act = draw_activation(dice)

    def forward(self, x: Tensor) -> Tensor:
        if not self.is_even:
            return self.act(x)
        field = x.transpose(1, 2).reshape(len(x), self.channels, *self.grid)
        field = F.pixel_shuffle(self.act(self.conv(F.pixel_unshuffle(field, 2))), 2)
        return x + field.flatten(2).transpose(1, 2)


class Dense(Block):
    def draw(self, dice: Random) -> None:
        self.module = nn.Linear(self.patches * self.channels, self.patches * self.channels)
        self.act = draw_activation(dice)
        self.is_patch_major = dice.random() < 0.5

    def forward(self, x: Tensor) -> Tensor:
        y = self.module(x.flatten(1)).view(x.shape)
        return x + self.act(patch_major(y) if self.is_patch_major else y)


class Tied(Block):
    def draw(self, dice: Random) -> None:
        self.spelling = dice.randrange(4)
        self.weight = random_parameter(dice.randint(1, 2 * self.channels), self.channels, std=0.3)
        self.act = draw_activation(dice)
        self.first = nn.Linear(self.channels, self.channels)
        self.second = nn.Linear(self.channels, self.channels)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        match self.spelling:
            case 0:
                return x + self.act(x @ self.weight.t()) @ self.weight
            case 1:
                return x + F.linear(self.act(F.linear(x, self.weight)), self.weight.t())
            case 2:
                return self.second(self.act(self.first(x)))
            case _:
                return x + self.first(self.act(self.first(x)))


class ComputedWeight(Block):
    def draw(self, dice: Random) -> None:
        rows, columns = self.grid
        c, self.spelling = self.channels, dice.randrange(8)
        self.rows, self.columns = random_parameter(c, rows, rows), random_parameter(c, columns, columns)
        self.weight, self.gain = random_parameter(c, c, std=0.5), random_parameter(c, 1)
        self.left, self.right = random_parameter(c, 2), random_parameter(2, c)
        self.normed = weight_norm(nn.Linear(c, c)) if self.spelling == 7 else nn.Identity()

    def kronecker(self) -> Tensor:
        """(C, P, P), of each channel its own."""
        product = torch.einsum("crs,cij->crisj", self.rows, self.columns)
        return product.reshape(-1, self.patches, self.patches)

    def forward(self, x: Tensor) -> Tensor:
        match self.spelling:
            case 0:
                y = torch.einsum("cpq,bqc->bpc", self.kronecker(), x)
            case 1:
                y = torch.bmm(self.kronecker(), x.permute(2, 1, 0)).permute(2, 1, 0)
            case 2:
                y = x @ (self.left @ self.right)
            case 3:
                y = x @ (self.gain * self.weight / self.weight.norm(dim=1, keepdim=True)).t()
            case 4:
                y = F.linear(x, self.weight * self.gain.exp())
            case 5:
                y = x @ (self.weight - self.weight.t())
            case 6:
                y = x @ self.weight.softmax(dim=0)
            case _:
                y = self.normed(x)
        return x + y.tanh()


class Grouped(Block):
    def draw(self, dice: Random) -> None:
        p, self.groups, self.spelling = self.patches, self.head_count(dice), dice.randrange(3)
        self.weight = random_parameter(self.groups, p, p, std=p**-0.5)
        self.bias = random_parameter(p, self.channels)
        self.act = draw_activation(dice)

    def forward(self, x: Tensor) -> Tensor:
        match self.spelling:
            case 0:
                groups = x.reshape(len(x), self.patches, self.groups, -1)
                y = torch.einsum("gpq,bqgc->bpgc", self.weight, groups).reshape(x.shape)
            case 1:
                groups = x.unflatten(2, (self.groups, -1)).permute(2, 1, 0, 3)  # (G, P, B, C/G)
                y = (self.weight @ groups.flatten(2)).reshape(groups.shape)
                y = y.permute(2, 1, 0, 3).flatten(2)
            case _:
                parts = x.chunk(self.groups, dim=2)
                y = torch.cat([w @ part for w, part in zip(self.weight, parts, strict=True)], dim=2)
        return x + self.act(y + self.bias)


SIMPLE: dict[str, type[Block]] = {
    block.__name__: block
    for block in (
        *(LinearOnPatches, TokenMatrix, Widened, Normed, Gated, Shifted, SelfAttention, GridConvolution),
        *(Modulated, ScaledAndShifted, Arithmetic, Clamped, Rearranged, Unshuffled, Dense, Tied),
        *(ComputedWeight, Grouped, Windowed),
    )
}


class Looped(Block):
    """One block applied several times, with the same weights."""

    def draw(self, dice: Random) -> None:
        inner = SIMPLE[dice.choice(list(SIMPLE))]
        self.inner = inner(self.grid, self.channels, dice)
        self.loops = dice.choice([2, 2, 3])

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.loops):
            x = torch.tanh(self.inner(x))
        return x


class Branched(Block):
    """Two blocks side by side."""

    def draw(self, dice: Random) -> None:
        names = dice.choices(list(SIMPLE), k=2)
        self.one, self.other = (SIMPLE[name](self.grid, self.channels, dice) for name in names)
        self.spelling = dice.randrange(3)

    def forward(self, x: Tensor) -> Tensor:
        match self.spelling:
            case 0:
                return 0.5 * (self.one(x) + self.other(x))
            case 1:
                return torch.tanh(self.one(x)) * torch.tanh(self.other(x))
            case _:
                return self.one(x).add(self.other(x), alpha=0.3)


BLOCKS: dict[str, type[Block]] = {**SIMPLE, "Looped": Looped, "Branched": Branched}
