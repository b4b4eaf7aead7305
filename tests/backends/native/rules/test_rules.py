"""Each rule against torch: values, gradients and second gradients in float64."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from mixcoder.backends.native.rules import RULES, mixing_convolutions, native_functions
from mixcoder.backends.native.rules.rule_table import MISSING
from mixcoder.backends.native.tracing import Symbol, Tracer
from tests.backends.native.evaluate import check_function

Case = tuple[str, Callable[..., Any], tuple[tuple[int, ...], ...]]

EVEN_KERNEL = "ignore:Using padding='same' with even kernel lengths"
"""What torch warns of once a process, in whichever test is the first."""

A, B = (2, 3, 4), (4, 5)
MASK = torch.tensor([[True, False, True, True], [False, True, True, False], [True, True, False, True]])

SHAPES: dict[str, Callable[..., Any]] = {
    "view": lambda x: x.view(6, 4) * 1.5,
    "view -1": lambda x: x.view(-1, 4).sin(),
    "view size": lambda x: x.view(torch.Size([3, 8])).sin(),
    "reshape": lambda x: torch.reshape(x, (3, -1)).sin(),
    "reshape keyword": lambda x: torch.reshape(x, shape=(3, -1)).sin(),
    "reshape_as": lambda x: x.reshape_as(x.flatten()).sin(),
    "flatten": lambda x: x.flatten(1).sin(),
    "flatten end": lambda x: torch.flatten(x, 0, 1).sin(),
    "ravel": lambda x: x.ravel().sin(),
    "unflatten": lambda x: x.unflatten(-1, (2, -1)).sin(),
    "squeeze": lambda x: x[:1].squeeze().sin(),
    "squeeze dim": lambda x: x[:1].squeeze(0).squeeze(1).sin(),
    "squeeze dims": lambda x: x[:1, :1].squeeze((0, 1)).sin(),
    "unsqueeze": lambda x: x.unsqueeze(-1).unsqueeze(0).sin(),
    "permute": lambda x: x.permute(2, 0, 1).sin(),
    "permute list": lambda x: torch.permute(x, dims=[2, -3, 1]).sin(),
    "transpose": lambda x: x.transpose(0, -1).sin(),
    "swapaxes": lambda x: x.swapaxes(0, 1).sin(),
    "mT": lambda x: x.mT.sin(),
    "T": lambda x: x[0].T.sin(),
    "t": lambda x: x[0].t().sin(),
    "H": lambda x: x[0].H.sin(),
    "movedim": lambda x: x.movedim(0, -1).sin(),
    "movedim several": lambda x: torch.movedim(x, (0, 1), (-1, 0)).sin(),
    "flip": lambda x: x.flip(0, 2).sin(),
    "flip dims": lambda x: torch.flip(x, dims=(1,)).sin(),
    "fliplr": lambda x: x.fliplr().sin() + x.flipud().cos(),
    "roll": lambda x: x.roll(1, dims=1).sin(),
    "roll back": lambda x: torch.roll(x, (-1, 2), dims=(0, 2)).sin(),
    "roll all": lambda x: x.roll(5).sin(),
    "roll by none": lambda x: x.roll(3, 1).sin(),
    "narrow": lambda x: x.narrow(2, 1, 2).sin(),
    "select": lambda x: x.select(1, -1).sin(),
    "unbind": lambda x: [part.sin() for part in x.unbind(1)],
    "iteration": lambda x: [part.sin() for part in x],
    "unpacking": lambda x: unpacked(x),
    "split": lambda x: [part.sin() for part in x.split(3, dim=-1)],
    "split sizes": lambda x: [part.sin() for part in torch.split(x, [1, 2], dim=1)],
    "split_size": lambda x: [part.sin() for part in x.split(split_size=2, dim=-1)],
    "chunk": lambda x: [part.sin() for part in x.chunk(3, dim=2)],
    "tensor_split": lambda x: [part.sin() for part in x.tensor_split(3, dim=2)],
    "unfold": lambda x: x.unfold(2, 3, 1).sin(),
    "unfold step": lambda x: x.unfold(2, 2, 2).sin(),
    "cat": lambda x: torch.cat([x, x.sin()], dim=1),
    "cat axis": lambda x: torch.cat((x, x.sin()), axis=-1),  # type: ignore[call-arg]
    "stack": lambda x: torch.stack([x, x.sin()], dim=-1),
    "stack first": lambda x: torch.stack([x, x.sin()]),
    "expand": lambda x: x[:, :1].sin().expand(-1, 5, 4),
    "expand new": lambda x: x.sin().expand(2, 2, 3, 4),
    "expand_as": lambda x: x[:1].sin().expand_as(x),
    "broadcast_to": lambda x: torch.broadcast_to(x[:1].sin(), (5, 3, 4)),
    "repeat": lambda x: x.sin().repeat(2, 1, 3),
    "repeat new": lambda x: x.sin().repeat(2, 1, 1, 1),
    "tile": lambda x: x.sin().tile(2),
    "repeat_interleave": lambda x: x.sin().repeat_interleave(2, dim=1),
    "pad": lambda x: F.pad(x.sin(), (1, 2, 0, 1)),
    "pad negative": lambda x: F.pad(x.sin(), (-1, 2)),
    "pad value": lambda x: F.pad(x.sin(), (1, 1), value=2.5) * x.sum(),
    "pad circular": lambda x: F.pad(x.sin(), (1, 2), mode="circular"),
    "pad reflect": lambda x: F.pad(x.sin(), (2, 1), mode="reflect"),
    "pad replicate": lambda x: F.pad(x.sin(), (2, 1), mode="replicate"),
    "pixel_shuffle": lambda x: F.pixel_shuffle(x.sin().reshape(1, 8, 1, 3), 2),
    "pixel_unshuffle": lambda x: F.pixel_unshuffle(x.sin().reshape(1, 4, 6), 2),
    "channel_shuffle": lambda x: F.channel_shuffle(x.sin().reshape(2, 6, 2, 1), 3),
    "clone": lambda x: x.clone().contiguous().float().to(torch.float32) * x,
    "sizes": lambda x: (x * len(x) + x.size(1) + x.ndim + x.numel() + x.shape[-1] + x.dim()).sin(),
    "zeros_like": lambda x: torch.zeros_like(x) + x.sin() * torch.ones_like(x) + torch.full_like(x, 2) * x,
    "new_zeros": lambda x: x.new_zeros(3, 4) + x.sin() * x.new_ones((4,)) + x.new_full((1,), 3.0) * x,
    "new_tensor": lambda x: x.new_tensor([1.0, 2, 3, 4]) * x.sin(),
    "tril": lambda x: torch.tril(x.sin(), -1) + x.triu(1),
}
INDICES: dict[str, Callable[..., Any]] = {
    "first": lambda x: x[0].sin(),
    "last": lambda x: x[-1, -2].sin(),
    "slices": lambda x: x[:, 1:, :-1].sin(),
    "steps": lambda x: x[:, ::2, 1::2].sin(),
    "steps to the end": lambda x: x[..., ::3].sin(),
    "none": lambda x: x[None, :, None].sin(),
    "ellipsis": lambda x: x[..., 0].sin(),
    "ellipsis none": lambda x: x[..., None, 1:].sin(),
    "ellipsis first": lambda x: x[0, ..., None].sin(),
    "list": lambda x: x[:, [2, 0, 0]].sin(),
    "tensor": lambda x: x[..., torch.tensor([[3, 1], [-1, 0]])].sin(),
    "range": lambda x: x[:, torch.arange(1, 3)].sin(),
    "embedding": lambda x: F.embedding(torch.tensor([[1, 0], [2, 1]]), x[0].sin()),
    "mask": lambda x: x[:, torch.tensor([True, False, True])].sin(),
    "index_select": lambda x: torch.index_select(x, 1, torch.tensor([2, 0])).sin(),
    "number and tensor": lambda x: x[0, :, torch.tensor([2, 1, 2])].sin(),
    "number of numpy": lambda x: x[:, np.int64(1)].sin(),
    "where": lambda x: torch.where(MASK, x.sin(), x * x),
    "where number": lambda x: torch.where(MASK, x.sin(), 1.0) + torch.where(MASK, 0.5, x.cos()),
    "masked_fill": lambda x: x.sin().masked_fill(MASK, 3.0),
    "where infinite": lambda x: torch.where(MASK, x.sin(), x.cos() + (~MASK).float().reciprocal()),
}
ARITHMETIC: dict[str, Callable[..., Any]] = {
    "add": lambda x: 1 + x.sin() + 2,
    "add broadcast": lambda x: x.sin() + x[0, 0] + x[:, :1],
    "add alpha": lambda x: torch.add(x, x.sin(), alpha=0.5),
    "sub": lambda x: 1 - x.sin() - 2 - x[:, :1],
    "sub alpha": lambda x: torch.sub(x.sin(), x[0], alpha=3),
    "mul": lambda x: x * 2 * x[..., :1] * x.sum(),
    "div": lambda x: x / 2 / (x * x + 1),
    "rdiv": lambda x: 2 / (x * x + 1),
    "neg": lambda x: -x.sin(),
    "square": lambda x: x.square() + x**2 + x**3 + x**1,
    "powers": lambda x: (x * x + 1) ** 1.5 + (x * x + 1) ** 0.5 + (x * x + 1) ** -0.5 + (x * x + 1) ** -1,
    "base": lambda x: 2**x + torch.pow(3.0, x),
    "pow zero": lambda x: x**0 * x.sin(),
    "numbers of numpy": lambda x: x * torch.tensor(2.0).numpy()[()] + x.sin(),
    "real tensors": lambda x: x * torch.arange(4) + torch.tensor(2.0) * x.sin() + torch.eye(3, 4),
    "double number": lambda x: x * torch.tensor(2.0, dtype=torch.float64).to(x.dtype) + x.sin(),
    "addcmul": lambda x: torch.addcmul(x, x.sin(), x.cos(), value=0.5),
    "addcdiv": lambda x: torch.addcdiv(x, x.sin(), x.cos() + 2, value=0.5),
    "lerp": lambda x: torch.lerp(x, x.sin(), 0.3),
    "lerp weight": lambda x: torch.lerp(x, x.sin(), x.sigmoid()),
    "maximum": lambda x: torch.maximum(x.sin(), x.cos()) + torch.minimum(x, x.square()),
    "maximum of infinite": lambda x: torch.maximum(x.sin(), x.detach().relu().log()) * x,
    "maximum of equals": lambda x: torch.maximum(x.relu(), x.relu() * 1) * x,
    "clamp": lambda x: x.clamp(-0.5, 0.7) * x + torch.clip(x, -0.2),
    "clamp low": lambda x: (
        x.clamp(min=0.1) * x + x.clamp_max(0.3) * x + x.clamp_min(0.2) + torch.clip(x, -0.2)
    ),
    "in place": lambda x: x.sin().add_(1).mul_(x).relu_(),
    "augmented": lambda x: augmented(x),
    "inplace": lambda x: F.relu(x.sin(), inplace=True) * F.silu(x * 1.5, inplace=True),
    "no_grad": lambda x: without_gradient(x) * x.sin(),
    "detach": lambda x: x.detach() * x.sin() + x.data,
}


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    torch.manual_seed(0)


def unpacked(x: Tensor) -> Tensor:
    first, second = x
    both: Tensor = first * second
    return both


CONDITIONS: dict[str, Callable[..., Any]] = {
    "where": lambda x: torch.where(x > 0, x.sin(), x * x),
    "where number": lambda x: torch.where(x < 0.5, 1.0, x.cos()) + torch.where(x[:, :1] >= 0.1, x, 2),
    "two tensors": lambda x: torch.where(x <= x.sin(), x, x.square()),
    "product": lambda x: (x > 0) * x.sin() + x * (x > x[0]).float() * (x < 1).to(x.dtype),
    "masked_fill": lambda x: x.sin().masked_fill(x < 0, 3.0),
    "not": lambda x: x.sin().masked_fill(~(x < 0), 3.0) + x * torch.logical_not(x > 1),
    "and": lambda x: x.sin().masked_fill((x < 0.5) & (x > -0.5), 3.0) * torch.logical_and(x > 0, x > x[0]),
    "or": lambda x: x.sin().masked_fill((x > 0.5) | (x < -0.5) | MASK, 3.0),
    "constant": lambda x: x.sin().masked_fill((x > 0.5) & MASK, 3.0),
    "moved": lambda x: x.sin() * (x[:, :, 0] > 0).unsqueeze(-1) * (x[0, 0] > 0).expand_as(x),
    "views": lambda x: x.sin() * (x > 0).transpose(0, 1).transpose(0, 1).reshape(x.shape)[:, :1],
    "bool": lambda x: x.sin() * (x > 0).bool(),
    "infinite elements": lambda x: torch.where(x > 0, x.sin() + x.detach().relu().log(), x.cos()),
    "infinite number": lambda x: x.masked_fill(x < x.mean(-1, keepdim=True), -torch.inf).softmax(-1),
}


def augmented(x: Tensor) -> Tensor:
    y = x.sin()
    same = y
    y += x
    y *= 2
    y -= 1
    y /= 3
    return y * same


def without_gradient(x: Tensor) -> Tensor:
    with torch.no_grad():
        return x.sin() + 1


ELEMENTWISE: dict[str, Callable[..., Any]] = {
    **{
        name: getattr(torch, name)
        for name in ("exp", "sin", "cos", "tanh", "sigmoid", "erf", "abs", "relu", "sign", "exp2", "absolute")
    },
    **{
        f"F.{name}": getattr(F, name)
        for name in (
            *("gelu", "relu", "relu6", "silu", "leaky_relu", "elu", "selu", "celu", "mish", "hardswish"),
            *("hardtanh", "softplus", "logsigmoid", "softsign", "tanhshrink", "softshrink"),
            *("hardshrink", "glu", "tanh", "sigmoid"),
        )
    },
    "log": lambda x: (
        torch.log(x * x + 1) + (x * x + 1).sqrt() + (x * x + 1).rsqrt() + (x * x + 1).reciprocal()
    ),
    "logs": lambda x: torch.log2(x * x + 1) + torch.log10(x * x + 1),
    "one more": lambda x: torch.log1p(x * x) + torch.expm1(x),
    "gelu tanh": lambda x: F.gelu(x, approximate="tanh"),
    "leaky slope": lambda x: F.leaky_relu(x, 0.2),
    "elu alpha": lambda x: F.elu(x, alpha=0.5),
    "celu alpha": lambda x: F.celu(x, alpha=0.5),
    "hardtanh bounds": lambda x: F.hardtanh(x, -0.3, 0.4),
    "softplus beta": lambda x: F.softplus(x, beta=2),
    "threshold": lambda x: F.threshold(x, 0.1, 0.5) * x,
    "glu dim": lambda x: F.glu(x[:, :2], dim=1),
    "dropout off": lambda x: F.dropout(x.sin(), 0.5, training=False) + F.dropout(x, 0.0),
    "hardsigmoid": lambda x: F.hardsigmoid(x).detach() * x,  # torch has no second derivative
    "prelu": lambda x: F.prelu(x, x[0, 0, :1].sin()) + torch.prelu(x, x[0, :, 0]),
    "dropouts off": lambda x: F.dropout1d(x.sin(), training=False) + F.alpha_dropout(x, 0.0),
    "special": lambda x: torch.special.expit(x) + torch.special.erf(x),
}
SUMS: dict[str, Callable[..., Any]] = {
    "sum": lambda x: x.sin().sum(),
    "sum dim": lambda x: x.sin().sum(1) * x.sin().sum(-2),
    "sum dims": lambda x: torch.sum(x.sin(), dim=(0, 2), keepdim=True) * x,
    "sum axis": lambda x: x.sin().sum(axis=1, keepdims=True) * x,
    "mean": lambda x: x.sin().mean() * x.mean(0),
    "mean dims": lambda x: torch.mean(x.sin(), [1, 2]),
    "var": lambda x: x.var() * x,
    "var dim": lambda x: x.var(-1, unbiased=False) + x.var(dim=2, correction=0) + torch.var(x, 2),
    "std": lambda x: x.std(dim=(1, 2), keepdim=True) * x,
    "var_mean": lambda x: torch.var_mean(x, dim=1),
    "std_mean": lambda x: torch.std_mean(x, dim=-1, keepdim=True),
    "norm": lambda x: x.norm() * x,
    "norm dim": lambda x: x.norm(dim=-1, keepdim=True) * x + torch.norm(x, p=1, dim=1, keepdim=True),
    "vector_norm": lambda x: torch.linalg.vector_norm(x, dim=(1, 2)) + torch.linalg.norm(x),
    "vector_norm ord": lambda x: torch.linalg.vector_norm(x, ord=1, dim=1) + torch.linalg.norm(x, dim=1),
    "normalize": lambda x: F.normalize(x, dim=-1) + F.normalize(x),
    "cosine": lambda x: F.cosine_similarity(x, x.sin(), dim=-1),
    "amax": lambda x: x.amax(-1) * x.amin(dim=2) + x.max() + x.min(),
    "amax keepdim": lambda x: torch.amax(x, (0, 2), keepdim=True) * x,
    "softmax": lambda x: F.softmax(x * 3, dim=-1) + x.softmax(1) + torch.softmax(x, dim=0),
    "softmin": lambda x: F.softmin(x, dim=1),
    "log_softmax": lambda x: F.log_softmax(x, dim=-1) + x.log_softmax(0),
    "logsumexp": lambda x: torch.logsumexp(x, dim=1, keepdim=True) * x,
    "masked softmax": lambda x: x.masked_fill(MASK, -torch.inf).softmax(-1),
    "large softmax": lambda x: (x * 1e4).softmax(-1) * 1.0,
    "mse_loss": lambda x: F.mse_loss(x, x.sin()),
}
NORMS: dict[str, Callable[..., Any]] = {
    "layer": lambda x, w, b: F.layer_norm(x, (4,)),
    "layer weight": lambda x, w, b: F.layer_norm(x, (4,), w[0], b[0], 1e-3),
    "layer axes": lambda x, w, b: F.layer_norm(x, (3, 4), w, b),
    "rms": lambda x, w, b: F.rms_norm(x, (4,), eps=1e-6),
    "rms weight": lambda x, w, b: F.rms_norm(x, (4,), w[0], 1e-4),
    "group": lambda x, w, b: F.group_norm(x.reshape(2, 6, 2), 3, w.flatten()[:6], b.flatten()[:6]),
    "instance": lambda x, w, b: F.instance_norm(x, weight=w[:, 0], bias=b[:, 1]),
}


def even_kernel(x: Tensor, w: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of its speed
        return F.conv1d(x, w, padding="same")


PRODUCTS: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]] = {
    "matmul": (lambda a, b: a @ b, (A, B)),
    "matmul both": (torch.matmul, (A, (2, 4, 5))),
    "matmul broadcast": (torch.matmul, ((2, 1, 3, 4), (3, 4, 5))),
    "matmul one batch": (torch.matmul, ((1, 3, 4), (2, 4, 5))),
    "matmul left": (torch.matmul, ((3, 2), (4, 2, 5))),
    "matmul vector": (torch.matmul, (A, (4,))),
    "vector matmul": (torch.matmul, ((4,), (2, 4, 5))),
    "vectors": (torch.matmul, ((4,), (4,))),
    "one row": (torch.matmul, ((1, 4), (4, 1))),
    "rmatmul": (lambda a, b: b.t() @ a.mT, (A, B)),
    "mm": (torch.mm, ((3, 4), B)),
    "bmm": (torch.bmm, (A, (2, 4, 5))),
    "mv": (torch.mv, ((3, 4), (4,))),
    "dot": (torch.dot, ((4,), (4,))),
    "linear": (F.linear, ((2, 3, 4), (5, 4), (5,))),
    "linear vector": (F.linear, ((4,), (5, 4), (5,))),
    "linear without bias": (lambda x, w: F.linear(x, w), ((3, 4), (5, 4))),
    "addmm": (lambda x, a, b: torch.addmm(x, a, b, beta=0.5, alpha=2), ((5,), (3, 4), B)),
    "baddbmm": (torch.baddbmm, ((2, 3, 5), A, (2, 4, 5))),
    "outer": (torch.outer, ((3,), (4,))),
    "inner": (torch.inner, ((2, 4), (3, 4))),
    "tensordot": (lambda a, b: torch.tensordot(a, b, dims=([2, 0], [0, 1])), (A, (4, 2, 5))),
    "tensordot number": (lambda a, b: torch.tensordot(a, b, dims=1), (A, B)),
    "kron": (torch.kron, ((2, 3), (4, 2))),
    "kron ranks": (torch.kron, ((3,), (4, 2))),
    "bilinear": (F.bilinear, ((3, 4), (3, 5), (2, 4, 5), (2,))),
    "multi_dot": (lambda a, b, c: torch.linalg.multi_dot([a, b, c]), ((2, 3), (3, 4), (4, 2))),
    "einsum": (lambda x, w: torch.einsum("bpc,oc->bpo", x, w), (A, (5, 4))),
    "einsum over channels": (lambda x, w: torch.einsum("bpc,cqp->bqc", x, w), (A, (4, 2, 3))),
    "einsum implicit": (lambda x, w: torch.einsum("bpc,co", x, w), (A, B)),
    "einsum ellipsis": (lambda x, w: torch.einsum("...c,co->...o", x, w), (A, B)),
    "einsum ellipses": (lambda x, w: torch.einsum("...pc,...co", x, w), ((2, 2, 3, 4), (2, 4, 5))),
    "einsum three": (lambda x, a, b: torch.einsum("bpc,qp,oc->bqo", x, a, b), (A, (2, 3), (5, 4))),
    "einsum one": (lambda x: torch.einsum("bpc->cp", x.sin()), (A,)),
    "einsum sum": (lambda x, y: torch.einsum("bpc,bpc->", x, y), (A, A)),
    "einsum elementwise": (lambda x, y: torch.einsum("bpc,c->bpc", x, y), (A, (4,))),
    "einsum outer": (lambda x, y: torch.einsum("i,j->ji", x, y), ((3,), (4,))),
    "einsum lone sum": (lambda x, y: torch.einsum("bpc,od->bo", x, y), (A, (5, 2))),
    "einsum ones": (lambda x, y: torch.einsum("bpc,bpd->cd", x, y), ((1, 3, 4), (2, 3, 5))),
    "trace": (lambda x: torch.trace(x.sin()), ((3, 3),)),
    "diagonal": (lambda x: x.sin().diagonal() + torch.diag(x), ((3, 3),)),
    "diag": (lambda x: torch.diag(x.sin()) @ torch.diag_embed(x), ((3,),)),
    "diag_embed": (lambda x: torch.diag_embed(x.sin()), (A,)),
}
CONVOLUTIONS: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]] = {
    "conv1d": (lambda x, w, b: F.conv1d(x, w, b, padding=1), ((2, 4, 6), (3, 4, 3), (3,))),
    "conv1d same": (lambda x, w: F.conv1d(x, w, padding="same"), ((2, 4, 6), (3, 4, 5))),
    "conv1d same, even": (even_kernel, ((2, 4, 6), (3, 4, 4))),
    "conv1d one image": (lambda x, w, b: F.conv1d(x, w, b), ((4, 6), (3, 4, 3), (3,))),
    "conv1d stride": (lambda x, w: F.conv1d(x, w, None, 2, 1), ((2, 4, 7), (3, 4, 3))),
    "conv1d dilation": (lambda x, w: F.conv1d(x, w, dilation=2, padding=2), ((2, 4, 6), (3, 4, 3))),
    "conv1d groups": (lambda x, w: F.conv1d(x, w, groups=2, padding="valid"), ((2, 4, 6), (6, 2, 3))),
    "conv1d depthwise": (lambda x, w, b: F.conv1d(x, w, b, 1, 1, 1, 4), ((2, 4, 6), (4, 1, 3), (4,))),
    "conv2d": (lambda x, w, b: F.conv2d(x, w, b, padding=1), ((2, 4, 5, 6), (3, 4, 3, 3), (3,))),
    "conv2d point": (lambda x, w: F.conv2d(x, w), ((2, 4, 5, 6), (3, 4, 1, 1))),
    "conv2d uneven": (lambda x, w: F.conv2d(x, w, padding=(2, 0)), ((2, 4, 3, 5), (3, 4, 5, 2))),
    "conv2d stride": (lambda x, w: F.conv2d(x, w, stride=(2, 3), padding=1), ((2, 4, 5, 6), (3, 4, 3, 3))),
    "conv2d depthwise": (lambda x, w: F.conv2d(x, w, padding=1, groups=4), ((2, 4, 5, 6), (4, 1, 3, 3))),
    "depthwise line": (lambda x, w, b: F.conv1d(x, w, b, 1, 1, 1, 9), ((2, 9, 6), (9, 1, 3), (9,))),
    "depthwise": (
        lambda x, w: F.conv2d(x, w, None, (2, 1), (1, 2), (1, 2), 8),
        ((2, 8, 5, 6), (8, 1, 3, 2)),
    ),
    "depthwise, even": (lambda x, w: F.conv2d(x, w, padding="same", groups=8), ((8, 4, 3), (8, 1, 2, 3))),
    "depthwise, transposed": (
        lambda x, w: F.conv_transpose2d(x, w, None, 2, (1, 0), (1, 0), 8),
        ((2, 8, 3, 2), (8, 1, 3, 2)),
    ),
    "conv2d multiplied": (lambda x, w: F.conv2d(x, w, padding=1, groups=4), ((2, 4, 5, 6), (8, 1, 3, 3))),
    "conv2d groups": (lambda x, w: F.conv2d(x, w, groups=2), ((2, 4, 5, 6), (6, 2, 3, 3))),
    "conv2d of one channel": (lambda x, w: F.conv2d(x, w), ((2, 1, 5, 6), (3, 1, 3, 3))),
    "patches": (lambda x, w, b: F.conv2d(x, w, b, stride=(2, 3)), ((2, 4, 5, 6), (3, 4, 2, 3), (3,))),
    "patches of groups": (lambda x, w: F.conv2d(x, w, stride=2, groups=2), ((2, 4, 4, 6), (6, 2, 2, 2))),
    "patches of a line": (lambda x, w: F.conv1d(x, w, stride=2), ((2, 4, 6), (6, 4, 2))),
    "to patches": (lambda x, w: F.conv_transpose2d(x, w, stride=(2, 3)), ((2, 4, 2, 3), (4, 3, 2, 3))),
    "to patches of groups": (
        lambda x, w: F.conv_transpose2d(x, w, stride=2, groups=2),
        ((2, 4, 2, 3), (4, 3, 2, 2)),
    ),
    "to patches of a line": (lambda x, w: F.conv_transpose1d(x, w, stride=2), ((4, 6), (4, 3, 2))),
    "conv2d by rows": (lambda x, w, b: F.conv2d(x, w, b, padding=1), ((2, 4, 3, 5), (4, 4, 3, 3), (4,))),
    "conv2d by rows, more": (lambda x, w: F.conv2d(x, w, padding=(2, 0)), ((2, 4, 3, 5), (6, 4, 5, 1))),
    "conv2d by rows, fewer": (lambda x, w: F.conv2d(x, w, padding="same"), ((2, 4, 3, 5), (3, 4, 3, 3))),
    "conv1d by rows": (lambda x, w: F.conv1d(x, w, padding=1), ((2, 4, 6), (4, 4, 3))),
    "transposed by rows": (lambda x, w: F.conv_transpose2d(x, w, padding=1), ((2, 4, 5, 6), (4, 3, 3, 3))),
    "transposed line": (lambda x, w, b: F.conv_transpose1d(x, w, b, padding=1), ((4, 6), (4, 5, 3), (5,))),
    "conv2d wide": (lambda x, w: F.conv2d(x, w, padding=1), ((2, 2, 2, 9), (2, 2, 3, 3))),
    "transposed wide": (lambda x, w: F.conv_transpose2d(x, w, padding=1), ((2, 2, 2, 9), (2, 2, 3, 3))),
    "strided, one tap": (lambda x, w: F.conv2d(x, w, stride=2), ((2, 2, 3, 3), (4, 2, 1, 1))),
    "transposed 1d": (lambda x, w, b: F.conv_transpose1d(x, w, b), ((2, 4, 5), (4, 3, 3), (3,))),
    "transposed": (
        lambda x, w, b: F.conv_transpose2d(x, w, b, padding=1),
        ((2, 4, 5, 6), (4, 3, 3, 3), (3,)),
    ),
    "transposed stride": (
        lambda x, w: F.conv_transpose2d(x, w, stride=2, padding=1, output_padding=1),
        ((2, 4, 3, 3), (4, 3, 3, 3)),
    ),
    "transposed groups": (
        lambda x, w: F.conv_transpose2d(x, w, groups=2, dilation=2),
        ((2, 4, 3, 3), (4, 3, 3, 2)),
    ),
    "transposed depthwise": (lambda x, w: F.conv_transpose1d(x, w, groups=4), ((2, 4, 3), (4, 1, 3))),
    "avg_pool": (lambda x: F.avg_pool2d(x.sin(), 2) * 2, ((2, 4, 5, 6),)),
    "avg_pool padded": (lambda x: F.avg_pool2d(x.sin(), 3, stride=1, padding=1), ((2, 4, 5, 6),)),
    "avg_pool uneven": (lambda x: F.avg_pool2d(x.sin(), (2, 3), stride=(1, 2)), ((2, 4, 5, 6),)),
    "avg_pool1d": (lambda x: F.avg_pool1d(x.sin(), 3, 2), ((2, 4, 6),)),
    "avg_pool module": (lambda x: nn.AvgPool2d(2)(x.sin()) * nn.AvgPool2d(2, 2, 0)(x), ((2, 4, 4, 6),)),
    "adaptive uneven": (lambda x: F.adaptive_avg_pool2d(x.sin(), (3, None)), ((2, 4, 4, 6),)),
    "max_pool": (lambda x: F.max_pool2d(x.sin(), 2), ((2, 4, 5, 6),)),
    "max_pool padded": (lambda x: nn.MaxPool2d(3, 1, padding=1)(x.relu()), ((2, 4, 5, 6),)),
    "max_pool1d": (lambda x: F.max_pool1d(x.sin(), 3, stride=2), ((2, 4, 6),)),
    "interpolate linearly": (
        lambda x: F.interpolate(x.sin(), (5, 4), mode="bilinear") * F.interpolate(x, (5, 4)),
        ((2, 3, 2, 3),),
    ),
    "interpolate corners": (
        lambda x: F.interpolate(x.sin(), scale_factor=(1.5, 2), mode="bilinear", align_corners=True),
        ((2, 3, 2, 3),),
    ),
    "interpolate a line": (lambda x: F.interpolate(x.sin(), scale_factor=2.0, mode="linear"), ((2, 3, 5),)),
    "interpolate exactly": (lambda x: F.interpolate(x.sin(), 7, mode="nearest-exact"), ((2, 3, 5),)),
    "unfold": (lambda x: F.unfold(x.sin(), 2), ((2, 4, 3, 5),)),
    "unfold padded": (lambda x: F.unfold(x.sin(), (3, 2), padding=1, stride=2), ((2, 4, 3, 5),)),
    "fold": (lambda x: F.fold(x.sin(), (4, 6), 2, stride=2), ((2, 12, 6),)),
    "adaptive": (
        lambda x: F.adaptive_avg_pool2d(x.sin(), 1) * F.adaptive_avg_pool2d(x, (2, 3)),
        ((2, 4, 4, 6),),
    ),
    "interpolate": (
        lambda x: F.interpolate(x.sin(), scale_factor=2) + F.interpolate(x, (4, 4)),
        ((2, 3, 2, 2),),
    ),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products(name: str) -> None:
    function, shapes = PRODUCTS[name]
    check_function(function, *map(torch.randn, shapes))


@pytest.mark.filterwarnings(EVEN_KERNEL)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name: str) -> None:
    function, shapes = CONVOLUTIONS[name]
    check_function(function, *map(torch.randn, shapes))


MASKS = {
    "none": None,
    "booleans": torch.tensor([[1, 0, 1], [1, 1, 1], [0, 0, 1]]).bool(),
    "numbers": torch.tensor([[1.0, 0.5, 1], [1, 1, 1], [0, 0, -1]]),
}


@pytest.mark.parametrize("mask", MASKS)
def test_attention(mask: str) -> None:
    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        given = MASKS[mask]
        own = given.to(q.dtype) if given is not None and given.is_floating_point() else given
        return F.scaled_dot_product_attention(q, k, v, own)

    with sdpa_kernel(SDPBackend.MATH):
        check_function(attend, *torch.randn(3, 2, 2, 3, 4))


def test_attention_to_the_past_with_a_scale() -> None:
    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3)

    with sdpa_kernel(SDPBackend.MATH):
        check_function(attend, *torch.randn(3, 2, 2, 3, 4))


def test_attention_with_a_learned_bias() -> None:
    with sdpa_kernel(SDPBackend.MATH):
        check_function(F.scaled_dot_product_attention, *torch.randn(3, 2, 2, 3, 4), torch.randn(3, 3))


@pytest.mark.parametrize("name", SHAPES)
def test_shapes(name: str) -> None:
    check_function(SHAPES[name], torch.randn(A))


@pytest.mark.parametrize("name", INDICES)
def test_indices(name: str) -> None:
    check_function(INDICES[name], torch.randn(A))


@pytest.mark.parametrize("name", ARITHMETIC)
def test_arithmetic(name: str) -> None:
    check_function(ARITHMETIC[name], torch.randn(A))


@pytest.mark.parametrize("name", CONDITIONS)
def test_conditions(name: str) -> None:
    check_function(CONDITIONS[name], torch.randn(A))


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_functions_of_each_element(name: str) -> None:
    check_function(ELEMENTWISE[name], 3 * torch.randn(A))


@pytest.mark.parametrize("name", SUMS)
def test_sums(name: str) -> None:
    check_function(SUMS[name], torch.randn(A))


@pytest.mark.parametrize("name", NORMS)
def test_norms(name: str) -> None:
    check_function(NORMS[name], torch.randn(A), torch.randn(3, 4), torch.randn(3, 4))


class Recorder(TorchFunctionMode):
    """A mode that notes which functions are called."""

    def __init__(self) -> None:
        super().__init__()
        self.called: set[object] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.called.add(func)
        return func(*args, **(kwargs or {}))


def test_each_rule_has_a_case() -> None:
    with Recorder() as recorder:
        for cases in (SHAPES, INDICES, ARITHMETIC, CONDITIONS, ELEMENTWISE, SUMS):
            for function in cases.values():
                function(torch.randn(A))
        for function in NORMS.values():
            function(torch.randn(A), torch.randn(3, 4), torch.randn(3, 4))
        for function, shapes in [*PRODUCTS.values(), *CONVOLUTIONS.values()]:
            function(*map(torch.randn, shapes))
        F.scaled_dot_product_attention(*torch.randn(3, 2, 2, 3, 4))
        nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))(torch.rand(2))
        of_itself(torch.rand(2, 3))
    tested = {RULES[function] for function in recorder.called if function in RULES}
    untested = {
        made for made in {*RULES.values()} - tested if made.__module__ != mixing_convolutions.__name__
    }
    assert {made.__qualname__ for made in untested} == set()


def test_torch_has_all_functions_that_have_rules() -> None:
    assert MISSING == []


def of_itself(x: Tensor) -> None:
    """What a tensor says of itself, and what leaves it as it is."""
    assert x.get_device() == -1
    assert x.dtype == torch.float32
    assert x.device == torch.device("cpu")
    assert x.layout == torch.strided
    assert x.element_size() == 4
    assert not x.is_complex()
    assert x.is_floating_point()
    assert x.is_contiguous()
    assert not x.sin().detach().requires_grad


def test_what_a_symbol_says_of_itself() -> None:
    parameter = nn.Parameter(torch.rand(2, 3))
    with Tracer([parameter]):
        x = parameter.sin()
        assert isinstance(x, Symbol)
        assert (x.shape, x.size(), x.size(-1), x.ndim, x.dim(), len(x)) == ((2, 3), (2, 3), 3, 2, 2, 2)
        assert (x.numel(), x.element_size()) == (6, 4)
        assert (x.dtype, x.device, x.get_device(), x.layout) == (
            torch.float32,
            torch.device("cpu"),
            -1,
            torch.strided,
        )
        assert x.is_floating_point()
        assert torch.is_floating_point(x)
        assert x.requires_grad
        assert x.is_contiguous()
        assert not x.is_cuda
        assert not x.is_complex()


def test_the_documents_list_the_functions_that_have_rules() -> None:
    listed = native_functions()
    names = {name for names in listed.values() for name in names}
    assert {"gelu", "einsum", "layer_norm", "roll", "conv2d", "kron", "linalg.vector_norm"} <= names
    assert not any(name.startswith("_") for name in names)
