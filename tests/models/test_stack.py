"""The Mixer of two lists of layers: its sizes, what each entry makes, and numbers that clash."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import nn
from torch.nn import functional as F

from mixcoder.errors import ArgumentError, ExperimentError
from mixcoder.experiments.file.spec import read_experiment
from mixcoder.models import KroneckerMixing, MixingLayer, create_model
from mixcoder.models.layer_list import MixingLayerEntry, PatchLayerEntry
from mixcoder.models.mixer_mlp import PatchLayer
from mixcoder.models.stack import StackedMixer
from mixcoder.models.stack_layers import Film, LoopedLayers
from mixcoder.models.summary import count_parameters
from tests.conftest import Cli

BASE: dict[str, Any] = {
    "image_shape": (2, 4, 6),
    "patch_size": 2,
    "latent_dim": 3,
    "code_channels": 4,
    "encoder": [{"channels": 5}],
    "decoder": [{"channels": 5}],
}
BLOCK = [{"mixer": "kronecker"}, {"channels": 5}]


def stack(**changes: Any) -> Any:
    torch.manual_seed(0)
    return create_model("stack", **{**BASE, **changes})


def decoder_of(*entries: Any, **changes: Any) -> Any:
    return stack(decoder=[{"channels": 5}, *entries], **changes)


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    torch.manual_seed(0)


# ── sizes ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_example_has_48344_parameters() -> None:
    example: dict[str, Any] = dict(StackedMixer.example)
    assert count_parameters(create_model("stack", **example)) == 48_344
    refined = create_model("stack", **example, refine={"steps": 2})
    assert count_parameters(refined) == 48_344 + 2 * 16**2 == 48_856


def test_parameters_by_formula() -> None:
    grid, pixels, code, width, latent = 6, 8, 4, 5, 3
    model = decoder_of(*BLOCK, "film")
    block = width * (2**2 + 3**2) + grid * width + width + width**2 + width + width  # two layers, two scales
    encoder = pixels * width + width + width * code + code + grid * code * latent + latent
    decoder = latent * grid * code + grid * code + code * width + width + block + 2 * (latent * width + width)
    assert count_parameters(model) == encoder + decoder + width * pixels + grid * pixels
    assert (
        count_parameters(decoder_of(*BLOCK, "film", residual_scale=None))
        == count_parameters(model) - 2 * width
    )
    for bias, numbers in (("position", grid * pixels), ("channel", pixels), ("none", 0)):
        assert (
            count_parameters(stack(output_bias=bias)) == count_parameters(stack(output_bias="none")) + numbers
        )
        wider = stack(encoder=[{"channels": 5, "bias": bias}])
        bare = stack(encoder=[{"channels": 5, "bias": "none"}])
        of_bias = {"position": grid * width, "channel": width, "none": 0}[bias]
        assert count_parameters(wider) == count_parameters(bare) + of_bias


@pytest.mark.parametrize("shape", [(1, 2, 12), (3, 8, 2), (2, 2, 2)])
def test_any_grid(shape: tuple[int, int, int]) -> None:
    model = decoder_of(*BLOCK, image_shape=shape)
    images = torch.rand(3, *shape)
    assert model.encode(images).shape == (3, 3)
    assert model(images).shape == images.shape


def test_a_stack_without_layers_is_two_linear_maps_on_patches() -> None:
    model, images = stack(encoder=[], decoder=[]), torch.rand(2, 2, 4, 6)
    assert model(images).shape == images.shape
    assert not [module for module in model.modules() if isinstance(module, MixingLayer | PatchLayer)]


def test_a_code_of_a_few_numbers_of_each_patch() -> None:
    """Without a linear layer over all patches: nothing but the layers mixes them."""
    model, images = stack(latent_dim=None, refine={"steps": 1, "matrix": "diagonal"}), torch.rand(2, 2, 4, 6)
    assert model.latent_shape == (6 * 4,)
    assert model(images).shape == images.shape
    assert count_parameters(model) == 8 * 5 + 5 + 5 * 4 + 4 + 4 * 5 + 5 + 5 * 8 + 6 * 8 + 24
    before = model.encode(images, steps=0)
    images[:, :, :2, :2] += 1
    changed = (model.encode(images, steps=0) - before).view(2, 6, 4).abs().sum(dim=(0, 2))
    assert (changed > 0).tolist() == [True, *[False] * 5]


# ── entries ──────────────────────────────────────────────────────────────────────────────────────────


def test_it_computes_what_its_diagram_says() -> None:
    model, images = (
        decoder_of(*BLOCK, output_activation={"name": "sigmoid", "scale": 2, "offset": -1}),
        torch.rand(2, 2, 4, 6),
    )
    nn.init.normal_(model.to_pixels.bias)
    x = images.reshape(2, 2, 2, 2, 3, 2).permute(0, 2, 4, 1, 3, 5).reshape(2, 6, 8)
    [first] = model.encoder
    x = F.gelu(x @ first.module.weight.t() + first.module.bias, approximate="tanh")
    x = F.gelu(x @ model.to_code.weight.t() + model.to_code.bias, approximate="tanh")
    latents = F.linear(x.flatten(1), model.to_latent.weight, model.to_latent.bias)
    torch.testing.assert_close(model.encode(images), latents)
    widen, mixing, channels = model.decoder
    x = F.linear(latents, model.from_latent.weight, model.from_latent.bias)
    x = F.gelu(x, approximate="tanh").reshape(2, 6, 4)
    x = F.gelu(x @ widen.module.weight.t() + widen.module.bias, approximate="tanh")
    x = x + mixing.residual_scale * F.gelu(mixing.mix(x), approximate="tanh")
    mixed = x @ channels.module.weight.t() + channels.module.bias
    x = x + channels.residual_scale * F.gelu(mixed, approximate="tanh")
    y = torch.sigmoid(2 * (x @ model.to_pixels.weight.t() + model.to_pixels.bias) - 1)
    expected = y.reshape(2, 2, 3, 2, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(2, 2, 4, 6)
    torch.testing.assert_close(model.decode(latents), expected)


def test_a_code_of_each_patch_has_no_layer_over_all_patches() -> None:
    model = stack(latent_dim=None, decoder=[{"channels": 5}, "film"])
    assert model.latent_shape == (6 * 4,)
    assert count_parameters(model) == (8 * 5 + 5) + (5 * 4 + 4) + (4 * 5 + 5) + 2 * (24 * 5 + 5) + (
        5 * 8 + 6 * 8
    )
    images = torch.rand(3, 2, 4, 6)
    codes = model.encode(images)
    other = images.clone()
    other[:, :, 2:, 4:] = 0  # the last patch
    changed = (model.encode(other) != codes).reshape(3, 6, 4)
    assert changed[:, -1].any(), "the code of a patch does not know its pixels"
    assert not changed[:, :-1].any(), "the code of a patch knows those of others"
    assert model.decode(codes).shape == images.shape


def test_repeated_layers_are_those_written_out() -> None:
    images = torch.rand(2, 2, 4, 6)
    repeated, written = decoder_of({"repeat": 3, "layers": BLOCK}), decoder_of(*BLOCK, *BLOCK, *BLOCK)
    assert list(repeated.state_dict()) == list(written.state_dict())
    assert torch.equal(repeated(images), written(images))
    nested = decoder_of({"repeat": 3, "layers": [{"repeat": 1, "layers": BLOCK}]})
    assert torch.equal(nested(images), written(images))
    kernels = [layer.rows for layer in repeated.decoder if isinstance(layer, KroneckerMixing)]
    assert len({kernel.data_ptr() for kernel in kernels}) == 3


def test_a_loop_shares_its_weights() -> None:
    images = torch.rand(2, 2, 4, 6)
    looped, once = decoder_of({"loop": 3, "layers": BLOCK}), decoder_of(*BLOCK)
    assert count_parameters(looped) == count_parameters(once)
    written = decoder_of(*BLOCK, *BLOCK, *BLOCK)
    names = {"decoder.1.": "decoder.1.layers.0.", "decoder.2.": "decoder.1.layers.1."}
    weights = looped.state_dict()
    for name in written.state_dict():
        index = int(name.split(".")[1]) if name.startswith("decoder.") else 0
        inner = name if not index else name.replace(f"decoder.{index}.", names[f"decoder.{2 - index % 2}."])
        written.state_dict()[name].copy_(weights[inner])
    torch.testing.assert_close(looped(images), written(images))


def test_film_begins_as_identity_and_knows_the_latent() -> None:
    latents = torch.randn(2, 3)
    plain, with_film = decoder_of(*BLOCK), decoder_of(*BLOCK, "film")
    with_film.load_state_dict(plain.state_dict(), strict=False)
    assert torch.equal(with_film.decode(latents), plain.decode(latents))
    film = with_film.decoder[-1]
    assert isinstance(film, Film)
    for linear in (film.scale, film.shift):
        nn.init.normal_(linear.weight)
        nn.init.normal_(linear.bias)
    x = torch.randn(2, 6, 5)
    expected = torch.stack([x[i] * (1 + film.scale(latents[i])) + film.shift(latents[i]) for i in range(2)])
    torch.testing.assert_close(film(x, latents), expected)
    assert not torch.allclose(with_film.decode(latents), plain.decode(latents))


def test_film_in_a_loop() -> None:
    model = decoder_of({"loop": 2, "layers": [*BLOCK, "film"]})
    assert isinstance(model.decoder[1], LoopedLayers)
    assert model(torch.rand(2, 2, 4, 6)).shape == (2, 2, 4, 6)


def test_the_scale_of_residual_layers() -> None:
    def scales(**changes: Any) -> list[Any]:
        layers = decoder_of(*BLOCK, **changes).decoder
        return [None if layer.residual_scale is None else layer.residual_scale.tolist() for layer in layers]

    assert scales(residual_scale=0.25) == [None, [0.25] * 5, [0.25] * 5]  # the first changes the channels
    assert scales(residual_scale=None) == [None, None, None]
    model = decoder_of(*BLOCK, residual_scale=0.0)
    bare = decoder_of()
    bare.load_state_dict(model.state_dict(), strict=False)
    latents = torch.randn(2, 3)
    torch.testing.assert_close(model.decode(latents), bare.decode(latents))


def test_an_activation_of_a_layers_own() -> None:
    model = decoder_of({"mixer": "cnn", "kernel_size": 3, "activation": "tanh"}, {"channels": 7})
    assert isinstance(model.decoder[1].act, nn.Tanh)
    assert isinstance(model.decoder[2].act, nn.GELU)
    assert model.decoder[1].module.kernel_size == (3,)


# ── numbers that clash ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"mixer": {"name": "grouped", "groups": 3}}, "1.mixer.groups: must divide the 5 channels, got 3"),
        (
            {"mixer": "cnn2d"},
            "1: mixer 'cnn2d' sees each patch as a square picture and 5 is not a square number",
        ),
        ({"mixer": "cnn", "kernel_size": 2}, "1.kernel_size: must be odd so that padding keeps the size"),
        ({"mixer": {"name": "cnn", "kernel_size": 2}}, "1.mixer.kernel_size: is a key beside `mixer`"),
        ({"mixer": "cnm"}, "1.mixer: unknown mixing layer 'cnm'; did you mean 'cnn'?"),
        (
            {"channels": 5, "activation": "gelo"},
            "1.activation: unknown activation 'gelo'; did you mean 'gelu'?",
        ),
        ({"channels": 0}, "1.channels: must be at least 1, not 0"),
        ({"channels": 5, "bias": "postion"}, "1.bias: unknown name 'postion'; did you mean 'position'?"),
        ({"channels": 5, "bais": "none"}, "1.bais: unknown key 'bais'; did you mean 'bias'?"),
        (
            {"mixer": "cnn", "bias": "none"},
            "1.bias: unknown key 'bias'; known: activation, kernel_size, mixer",
        ),
        (
            {"chanels": 5},
            "1: is no layer; a layer has one of the keys channels, mixer, repeat, loop, or is film; ",
        ),
        ({"chanels": 5}, "or is film; did you mean 'channels'?"),
        ("kronecker", "1: write {mixer: kronecker}"),
        (
            {"mixer": "grouped", "groups": 8},
            "1: write mixer: {name: grouped, groups: 8}; this belongs to the mixing layer",
        ),
        ({"mixer": "grouped(8)"}, "1.mixer: must be a map, {name: grouped, groups: 8}, not the text"),
        (
            {"channels": 58, "repeat": 3},
            "1: repeat has a list of layers; write {repeat: 3, layers: [{…}]}",
        ),
        ({"mixer": "cnn", "loop": 3}, "1: loop has a list of layers; write {loop: 3, layers: [{…}]}"),
        ("flim", "or is film; did you mean 'film'?"),
        (7, "1: is no layer; a layer has one of the keys"),
        ({"repeat": 2, "layers": []}, "1.layers: must have at least 1 in it, not the list []"),
        ({"repeat": 2}, "1.layers: is missing"),
        ({"repeat": 2, "loop": 2, "layers": BLOCK}, "1.loop: unknown key 'loop'; known: layers, repeat"),
        (
            {"loop": 2, "layers": [{"channels": 6}]},
            "1.layers: must end with as many channels as they take, 5, not 6",
        ),
        ({"repeat": 2, "layers": [{"mixer": "cnm"}]}, "1.layers.0.mixer: unknown mixing layer 'cnm'"),
        ({"repeat": 2, "layers": [{"mixr": "cnn"}]}, "1.layers.0: is no layer"),
        (
            {"repeat": 256, "layers": BLOCK},
            ": must be at most 256 layers; those of a loop count once for each pass",
        ),
        (
            {"loop": 20, "layers": [{"loop": 20, "layers": BLOCK}]},
            "must be at most 256 layers; those of a loop",
        ),
    ],
)
@pytest.mark.parametrize("half", ["encoder", "decoder"])
def test_clear_errors(entry: Any, sentence: str, half: str) -> None:
    with pytest.raises(ArgumentError, match=re.escape(sentence)) as caught:
        stack(**{half: [{"channels": 5}, entry]})
    assert str(caught.value).startswith(f"{half}")


@pytest.mark.parametrize("entry", [{"channels": 5}, {"mixer": "cnn"}])
def test_the_defaults_in_a_file_are_those_of_the_layers(entry: dict[str, Any]) -> None:
    kind = PatchLayerEntry if "channels" in entry else MixingLayerEntry
    keys = TypeAdapter(kind).json_schema()["properties"]
    defaults = {key: schema["default"] for key, schema in keys.items() if "default" in schema}
    assert defaults
    bare, stated = decoder_of(*BLOCK, entry), decoder_of(*BLOCK, {**entry, **defaults})
    assert str(bare) == str(stated)
    shapes = [{key: tuple(x.shape) for key, x in model.state_dict().items()} for model in (bare, stated)]
    assert shapes[0] == shapes[1]


def test_film_in_an_encoder() -> None:
    with pytest.raises(
        ArgumentError, match=r"encoder\.1: film may stand in a decoder only: an encoder has no code yet"
    ):
        stack(encoder=[{"channels": 5}, "film"])


def test_other_numbers() -> None:
    for changes, sentence in (
        ({"code_channels": 0}, "code_channels: must be a whole number from 1 to 1,000,000, got 0"),
        ({"patch_size": 5}, "patch_size: "),
        ({"encoder": {"channels": 5}}, "encoder: must be a list, not a map"),
        ({"output_activation": {"name": "sigmoid", "scal": 8}}, "did you mean 'scale'?"),
        (
            {"output_activation": {"name": "tanh", "scale": 8}},
            "the output activation 'tanh' has no arguments",
        ),
        (
            {"output_activation": {"name": "clamp", "args": 8}},
            "the output activation 'clamp' has no arguments",
        ),
        ({"residual_scale": "big"}, "residual_scale: must be a number, not the text 'big'"),
    ):
        with pytest.raises(ArgumentError, match=re.escape(sentence)):
            stack(**changes)


FILE = """\
name: mine
data: {source: digits}
model:
  type: stack
  patch_size: 4
  latent_dim: 4
  code_channels: 4
  encoder:
    - {channels: 6}
    - {mixer: cnn}
    - mixer: {name: grouped, groups: 4}
  decoder:
    - {channels: 6}
    - repeat: 2
      layers:
        - mixer: kronecker
        - {channels: 6}
  output_activation:
    name: sigmoid
    scale: 8
  refine:
    steps: 2
training: {inputs: 1_000}
"""


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("", "", "11: model.encoder.2.mixer.groups: must divide the 6 channels, got 4"),
        (
            "groups: 4",
            "group: 3",
            "11: model.encoder.2.mixer.group: unknown key 'group'; did you mean 'groups'?",
        ),
        ("mixer: kronecker", "mixr: kronecker", "16: model.decoder.1.layers.0: is no layer"),
        (
            "scale: 8",
            "scal: 8",
            "20: model.output_activation.scal: unknown key 'scal'; did you mean 'scale'?",
        ),
        ("mixer: kronecker", "kronecker", "16: model.decoder.1.layers.0: write {mixer: kronecker}"),
        ("steps: 2", "steps: 0", "22: model.refine.steps: must be at least 1, not 0"),
        ("steps: 2", "step: 2", "22: model.refine.step: unknown key 'step'; did you mean 'steps'?"),
    ],
)
def test_errors_of_a_file_have_their_line(old: str, new: str, place: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_text(
        FILE.replace(old, new)
        if old in ("", "groups: 4")
        else FILE.replace("groups: 4", "groups: 3").replace(old, new)
    )
    with pytest.raises(ExperimentError) as caught:
        read_experiment(path)
    assert f"{path}:{place}" in str(caught.value)


def test_nested_keys_in_overrides_and_in_a_matrix(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    matrix = "matrix: {k: [1, 3], layer: [{channels: 6}, {mixer: cnn}], g: [2, 3]}\n"
    text = FILE.replace("groups: 4", 'groups: "${g}"').replace("steps: 2", "steps: ${k}")
    path.write_text(text.replace("- {mixer: cnn}", "- ${layer}") + matrix)
    runs = read_experiment(path, ["model.refine.trust_radius=0.5", "model.output_activation.scale=4"]).runs
    assert len({run.digest for run in runs}) == 8
    arguments = [run.model[1] for run in runs]
    assert {arg["refine"]["steps"] for arg in arguments} == {1, 3}
    assert {arg["refine"]["trust_radius"] for arg in arguments} == {0.5}
    assert {arg["encoder"][2]["mixer"]["groups"] for arg in arguments} == {2, 3}
    assert [arg["encoder"][1] for arg in arguments][:3:2] == [{"channels": 6}, {"mixer": "cnn"}]
    assert arguments[0]["output_activation"] == {"name": "sigmoid", "scale": 4}


def test_models_show_and_ls(cli: Cli) -> None:
    status, out, _ = cli("models", "show", "stack")
    assert status == 0
    assert "48,344" in out
    assert "Mixer of two lists of layers" in cli("models", "ls")[1]


def test_a_copy_has_the_same_weights() -> None:
    model, images = decoder_of(*BLOCK, refine={"steps": 1}), torch.rand(2, 2, 4, 6)
    assert torch.equal(copy.deepcopy(model)(images), model(images))
