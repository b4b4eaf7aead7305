from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixcoder.backends.losses import LOSSES
from mixcoder.backends.native.tracing import trace
from mixcoder.backends.step import UnsupportedError
from mixcoder.models import create_model
from tests.backends.native.evaluate import gradients_of

ARTICLE = [("cnn", 1), ("cnn", 3), ("cnnf", 3), ("cnn2d", 3), ("cnn2df", 3), ("mlp", 1)]


def check_trace(model: nn.Module, images: Tensor, loss: str = "mse") -> None:
    """Outputs and gradients of the traced graph are those of autograd, in float64."""
    traced = trace(model, images.shape)
    outputs, found = gradients_of(traced, loss, images, model)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    wanted = model.double()(images.double())
    torch.testing.assert_close(outputs, wanted)
    loss_of = LOSSES[loss](wanted, images.double())
    expected = torch.autograd.grad(loss_of, parameters, materialize_grads=True)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("mixer", "kernel_size"), ARTICLE)
def test_the_graph_of_a_mixer_is_its_forward(mixer: str, kernel_size: int) -> None:
    torch.manual_seed(0)
    model = create_model(
        "mixer",
        image_shape=(2, 12, 16),
        patch_size=4,
        hidden_channels=[16, 16, 9],
        latent_dim=5,
        mixer_at=[1, 2, 3],
        mixer=mixer,
        kernel_size=kernel_size,
    )
    check_trace(model, torch.rand(3, 2, 12, 16))


class Network(nn.Module):
    """Any function of images, with some parameters that it may use."""

    def __init__(self, function: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.randn(6, 6))
        self.bias = nn.Parameter(torch.randn(6))
        self.scale = nn.Parameter(torch.tensor(0.7))
        self.frozen = nn.Parameter(torch.randn(6), requires_grad=False)
        self.register_buffer("mask", torch.tensor([1.0, 0, 1, 1, 0, 1]))
        self.layer = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


IMAGES = (3, 1, 4, 6)


def looped(net: Any, x: Tensor) -> Any:
    for _ in range(3):
        x = x + torch.tanh(net.layer(x))
    return x


def with_views(net: Any, x: Tensor) -> Any:
    y = net.layer(x)
    y = y.transpose(2, 3)
    y += net.scale
    return y.transpose(2, 3)


def without_gradient(net: Any, x: Tensor) -> Any:
    with torch.no_grad():
        weight = net.weight / net.weight.norm()
    return x @ weight + net.layer(x)


GOOD: dict[str, Callable[[Any, Tensor], Any]] = {
    "tied": lambda net, x: F.linear(F.gelu(F.linear(x, net.weight, net.bias)), net.weight.t()),
    "looped": looped,
    "kronecker": lambda net, x: x @ torch.kron(net.weight[:2, :2], net.weight[2:5, 2:5]),
    "from weights alone": lambda net, x: x * net.scale.exp() + (net.weight.softmax(-1) @ net.bias),
    "frozen": lambda net, x: net.layer(x) * net.frozen + net.frozen.exp(),
    "buffer": lambda net, x: net.layer(x) * net.mask,
    "views that died": with_views,
    "no_grad": without_gradient,
    "large field": lambda net, x: F.conv2d(x.tile(9, 9), net.weight.reshape(4, 1, 3, 3))[:, :1, :4, :6],
    "infinite where not chosen": lambda net, x: net.layer(
        torch.where(x > 0.5, x * (x > 0.5).float().reciprocal(), 0.0)
    ),
    "copy in place": lambda net, x: net.layer(x).clone().add_(x),
    "changed next to a copy": lambda net, x: net.layer(x).view(-1, 6).clone().view(x.shape).add_(x),
    "where gradients are": lambda net, x: (
        net.layer(x) * (1 + x.requires_grad + 2 * net.layer(x).detach().cos().requires_grad)
    ),
    "sizes": lambda net, x: x.reshape(len(x), -1, 6).matmul(net.weight).reshape(x.shape) / x.shape[-1],
}


@pytest.mark.parametrize("name", GOOD)
def test_networks(name: str) -> None:
    torch.manual_seed(0)
    check_trace(Network(GOOD[name]), torch.rand(IMAGES))


class Doubled(torch.autograd.Function):
    """A function whose derivative is not that of its operations."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 1.5

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        return gradient * 7


def changed_in_place(net: Any, x: Tensor) -> Any:
    y = net.layer(x)
    rows = y.flatten(0, 1)
    y += 1
    return rows.reshape(x.shape)


def changed_unfolded(net: Any, x: Tensor) -> Any:
    y = net.layer(x)
    rows = y.unfold(3, 2, 2)
    rows += 1
    return y


def changed_every_second(net: Any, x: Tensor) -> Any:
    y = net.layer(x)
    columns = y[..., 1::2]
    columns *= 2
    return y


def changed_after(view: Callable[[Tensor], Tensor]) -> Callable[[Any, Tensor], Any]:
    """A forward that changes a view of what it returns."""

    def forward(net: Any, x: Tensor) -> Any:
        y = net.layer(x)
        part = view(y)
        part *= 2
        return y

    return forward


def changed_without_gradient(net: Any, x: Tensor) -> Any:
    y = net.layer(x)
    with torch.no_grad():
        y *= 2
    return y


def changed_by_keyword(net: Any, x: Tensor) -> Any:
    y = net.layer(x)
    rows = torch.reshape(input=y, shape=(-1, 6))
    rows += 1
    return y


def in_bfloat16(net: Any, x: Tensor) -> Any:
    with torch.autocast("cpu", torch.bfloat16):
        return net.layer(x).float()


def changed_constant(net: Any, x: Tensor) -> Any:
    weight = torch.ones(6)
    x = net.layer(x) * weight
    weight[0] = 3
    return x * weight


def remembering(net: Any, x: Tensor) -> Any:
    net.last = net.layer(x)
    return net.last


def counting(net: Any, x: Tensor) -> Any:
    net.mask += 1
    return net.layer(x)


def counting_object() -> Callable[[Any, Tensor], Any]:
    """A forward that changes after many calls, beside the module."""
    state = SimpleNamespace(calls=0)

    def forward(net: Any, x: Tensor) -> Any:
        state.calls += 1
        return net.layer(x) if state.calls < 100 else x

    return forward


class Counting:
    """A count of calls, which no module has as an attribute."""

    calls = 0


def counting_class(net: Any, x: Tensor) -> Any:
    Counting.calls += 1
    return net.layer(x) * Counting.calls


def with_generator(generator: Any, draw: Callable[[Any], float]) -> Callable[[Any, Tensor], Any]:
    """A forward with random numbers of its own, which seldom change what it computes."""
    return lambda net, x: net.layer(x) * (0.0 if draw(generator) < 1e-6 else 1.0)


KEPT: list[Tensor] = []


def keeping(net: Any, x: Tensor) -> Any:
    """A forward that uses what an earlier one computed."""
    KEPT.append(net.layer(x))
    return KEPT[0]


LISTED = [torch.zeros(6)]


def changing_global(net: Any, x: Tensor) -> Any:
    LISTED[0] += 1
    return net.layer(x) * LISTED[0]


def written_into(net: Any, x: Tensor) -> Any:
    out = torch.zeros(IMAGES)
    out[:, 0] = net.layer(x)[:, 0]
    return out


def with_autograd(net: Any, x: Tensor) -> Any:
    y = net.layer(x)
    return torch.autograd.grad(y.square().sum(), x, create_graph=True)[0]


REFUSED: dict[str, tuple[Callable[[Any, Tensor], Any], str]] = {
    "unknown": (lambda net, x: net.layer(x).cumsum(-1), "no rule for torch.Tensor.cumsum"),
    "unknown function": (lambda net, x: torch.cumsum(net.layer(x), 1), "no rule for torch.cumsum"),
    "unknown argument": (lambda net, x: x.max(dim=1)[0], "no rule for torch.Tensor.max with these arguments"),
    "another type": (lambda net, x: net.layer(x).double().float(), "no rule for torch.Tensor.double"),
    "dtype": (lambda net, x: net.layer(x).sum(-1, dtype=torch.float64), "torch.Tensor.sum with dtype="),
    "to": (
        lambda net, x: net.layer(x.to(torch.bfloat16)),
        "torch.Tensor.to: a tensor converted to torch.bfloat16",
    ),
    "condition": (
        lambda net, x: x if x.sum() > 0 else -x,
        "torch.Tensor.__bool__: forward would",
    ),
    "sum of conditions": (lambda net, x: x * (x > 0).sum(), "torch.Tensor.sum: a condition in the place"),
    "conditions times a number": (lambda net, x: x * ((x > 0) * 2), "a product of conditions, or with a"),
    "condition as an index": (lambda net, x: x[x > 0], "a condition in the place"),
    "item": (
        lambda net, x: x * net.scale.item(),
        "Tensor.item: forward would depend on the elements",
    ),
    "float": (
        lambda net, x: x * float(net.scale),
        "__float__: forward would depend",
    ),
    "bool": (lambda net, x: x if net.scale else -x, "would depend on the elements"),
    "numpy": (lambda net, x: x * net.bias.detach().numpy(), "would depend on the elements"),
    "list": (lambda net, x: x * net.bias.tolist()[0], "would depend on the elements"),
    "random": (lambda net, x: net.layer(x) + torch.randn(6), "draws random numbers"),
    "random like": (lambda net, x: net.layer(x) + torch.rand_like(x), "no rule for torch.rand_like"),
    "dropout": (
        lambda net, x: F.dropout(net.layer(x), 0.1, net.training),
        "dropout, whose numbers are random",
    ),
    "function": (lambda net, x: Doubled.apply(net.layer(x)), "an autograd.Function"),  # type: ignore[no-untyped-call]
    "function first": (lambda net, x: Doubled.apply(net.weight)[0] * x, "an autograd.Function"),  # type: ignore[no-untyped-call]
    "view in place": (changed_in_place, "in place of which there are views"),
    "unfolded in place": (changed_unfolded, "in place of which there are views"),
    "every second in place": (changed_every_second, "in place of which there are views"),
    **{
        f"{name} in place": (changed_after(view), "in place of which there are views")
        for name, view in {
            "view and back": lambda y: y.view(-1, 3, 2).view(-1, 6),
            "squeezed": lambda y: y.unsqueeze(1).squeeze(1),
            "permuted and back": lambda y: y.permute(1, 0, 2, 3).permute(1, 0, 2, 3),
            "every second of two": lambda y: y.view(-1, 4, 6)[:, ::2, 1::3],
            "diagonal": lambda y: y[0, 0, :, :4].diagonal(),
            "row of a part": lambda y: y[:, :, 1:3][:, :, 1],
        }.items()
    },
    "is_leaf": (lambda net, x: net.layer(x) if x.is_leaf else x, "no leaves of autograd"),
    "stride": (lambda net, x: net.layer(x) * x.stride(0), "in another order than torch"),
    "contiguous": (lambda net, x: net.layer(x) * x.mT.is_contiguous(), "whether a view is contiguous"),
    "channels last": (
        lambda net, x: net.layer(x) * x.is_contiguous(memory_format=torch.channels_last),
        "is_contiguous with memory_format=",
    ),
    "counter of an object": (counting_object(), "the model changes itself"),
    "counter of a class": (counting_class, "something else at the second call"),
    "own generator": (
        lambda net, x: net.layer(x) + torch.randn(6, generator=torch.Generator()),
        "draws random numbers",
    ),
    "own Random": (with_generator(random.Random(0), lambda own: own.random()), "the model changes itself"),
    "own numpy": (
        with_generator(np.random.default_rng(0), lambda own: own.random()),
        "the model changes itself",
    ),
    "own count": (with_generator(itertools.count(), lambda own: next(own) + 1), "the model changes itself"),
    "kept": (keeping, "something else at the second call"),
    "global in place": (changing_global, "changes a tensor that it has used"),
    "in place without gradients": (changed_without_gradient, "in place within torch.no_grad"),
    "in place by keyword": (changed_by_keyword, "in place of which there are views"),
    "autocast": (in_bfloat16, "torch.nn.functional.linear within torch.autocast"),
    "random of Python": (lambda net, x: net.layer(x) * random.random(), "draws random numbers"),
    "random of numpy": (lambda net, x: net.layer(x) * np.random.rand(), "draws random numbers"),
    "images in place": (lambda net, x: x.mul_(2) * net.scale, "in place of which there are views"),
    "weight in place": (lambda net, x: x * net.bias.data.mul_(2), "in place of which there are views"),
    "constant in place": (changed_constant, "changes a tensor that it has used"),
    "written into": (written_into, "no rule for torch.Tensor.__setitem__"),
    "attribute": (remembering, "the model changes itself"),
    "buffer": (counting, "the model changes itself"),
    "shape": (lambda net, x: net.layer(x)[:, :, :2], r"the outputs have shape \(3, 1, 2, 6\)"),
    "tuple": (lambda net, x: (x, x), "forward returns tuple"),
    "float64": (lambda net, x: x * torch.ones(6, dtype=torch.float64), "a tensor of torch.float64"),
    "batch norm": (
        lambda net, x: F.batch_norm(x, None, None, training=True),
        "statistics are those of the whole",
    ),
    "autograd": (with_autograd, "no rule for torch.autograd.grad: mixcoder.pull_back"),
    "out": (lambda net, x: torch.add(x, 1, out=torch.empty(IMAGES)), "out="),
    "not a number": (lambda net, x: x * torch.tensor(float("nan")), "elements that are not numbers"),
    "vjp": (lambda net, x: torch.func.vjp(net.layer, x)[0], "not numbers"),
    "mistake": (lambda net, x: x @ torch.ones(5, 5), "sizes of .* differ"),
    "negative step": (lambda net, x: x[..., ::-1], "a negative step"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_rule_is_refused_by_name(name: str) -> None:
    function, message = REFUSED[name]
    KEPT.clear()
    with pytest.raises(UnsupportedError, match=message):
        trace(Network(function), IMAGES)


def test_a_refusal_leaves_random_numbers_as_they_were() -> None:
    network = Network(lambda net, x: x * torch.rand(()))
    before = torch.get_rng_state()
    with pytest.raises(UnsupportedError):
        trace(network, IMAGES)
    assert torch.equal(torch.get_rng_state(), before)


def test_tracing_leaves_a_model_as_it_was() -> None:
    model = Network(looped)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trace(model, IMAGES)
    assert model(torch.rand(IMAGES)).isfinite().all()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def attention(net: Any, x: Tensor) -> Any:
    y, _ = net.attention(x[:, 0], x[:, 0], x[:, 0], need_weights=False)
    both: Tensor = x + y[:, None]
    return both


@pytest.mark.parametrize("bias", [True, False])
def test_attention_with_several_heads(bias: bool) -> None:
    network = Network(attention)
    network.attention = nn.MultiheadAttention(6, 2, batch_first=True, bias=bias)
    check_trace(network, torch.rand(IMAGES))


@pytest.mark.parametrize("normed", ["weight_norm", "orthogonal", "spectral_norm"])
def test_weights_computed_from_other_parameters(normed: str) -> None:
    network = Network(lambda net, x: net.layer(x))
    getattr(nn.utils.parametrizations, normed)(network.layer)
    if normed == "weight_norm":
        check_trace(network, torch.rand(IMAGES))
    else:
        with pytest.raises(UnsupportedError):
            trace(network, IMAGES)


@pytest.mark.parametrize("norm", ["layer", "rms"])
@pytest.mark.parametrize("activation", ["silu", "tanh", "relu6", "elu", "leaky_relu", "sigmoid", "relu"])
def test_mixers_with_norms(norm: str, activation: str) -> None:
    model = create_model(
        "mixer",
        image_shape=(1, 4, 6),
        patch_size=2,
        hidden_channels=[5, 5],
        latent_dim=3,
        mixer_at=[1],
        norm=norm,
        activation=activation,
        output_activation="clamp",
    )
    for module in model.modules():
        if isinstance(module, nn.RMSNorm):
            module.eps = 1e-6
    check_trace(model, torch.rand(IMAGES), "huber")


def test_convolutional_networks() -> None:
    check_trace(
        create_model("script", image_shape=(1, 8, 8), script="ch=4|down2|scl=1|ch/2|ch=1"),
        torch.rand(2, 1, 8, 8),
    )
    plain = create_model("cnn", image_shape=(1, 8, 9), channels=[3, 4], kernel_size=3, latent_dim=5)
    check_trace(plain, torch.rand(2, 1, 8, 9), "l1")
