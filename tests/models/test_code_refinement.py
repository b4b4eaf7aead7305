"""A code refined by the decoder's gradient: the formula, its bounds, and every model and backend."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Sequence
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

import mixcoder
from mixcoder.backends.backend import BackendChoice, build_step
from mixcoder.backends.eager import eager_gradients
from mixcoder.backends.inductor.inductor_backend import INDUCTOR
from mixcoder.backends.native.native_step import NativeStep, missing_operation
from mixcoder.backends.parameters import FlatParameters
from mixcoder.backends.step import StepSpec
from mixcoder.errors import ArgumentError
from mixcoder.experiments.file.shipped import shipped_folder
from mixcoder.experiments.file.spec import read_experiment
from mixcoder.models.code_refinement import MOST_STEPS, CodeRefinement, RefineSettings
from tests.conftest import Cli, needs_compiler, slow

SHAPE = (1, 8, 8)
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "stack": (
        "stack",
        {
            "patch_size": 4,
            "latent_dim": 5,
            "code_channels": 4,
            "encoder": [{"channels": 8}],
            "decoder": [{"channels": 8, "bias": "position"}, {"mixer": "kronecker"}, {"channels": 8}, "film"],
            "output_activation": {"name": "sigmoid", "scale": 8, "offset": -2},
        },
    ),
    "mixer": ("mixer", {"patch_size": 4, "hidden_channels": [9, 9], "latent_dim": 5, "mixer_at": [1]}),
    "clamp": (
        "mixer",
        {
            "patch_size": 4,
            "hidden_channels": [9],
            "latent_dim": 5,
            "mixer_at": [1],
            "mixer": "token_mlp",
            "output_activation": "clamp",
        },
    ),
    "cnn": ("cnn", {"channels": [3, 4], "kernel_size": 3, "latent_dim": 5, "activation": "gelu"}),
    "script": ("script", {"script": "ch=6|down2|ch*1|ch=2", "kernel_size": 3}),
}


class Plugged(mixcoder.Autoencoder):
    """A plugin's model that knows nothing of refinement."""

    def __init__(self, image_shape: Sequence[int], latent_dim: int = 4) -> None:
        super().__init__()
        self.image_shape, self.latent_shape = (1, 8, 8), (2, latent_dim)
        self.encoder = nn.Linear(64, 2 * latent_dim)
        self.decoder = nn.Linear(2 * latent_dim, 64)

    def _encode(self, images: Tensor) -> Tensor:
        return self.encoder(images.flatten(1)).view(-1, *self.latent_shape)  # type: ignore[no-any-return]

    def _decode(self, latents: Tensor) -> Tensor:
        return torch.sigmoid(self.decoder(latents.flatten(1))).view(-1, 1, 8, 8)


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    mixcoder.register_model("plugged")(Plugged)
    torch.manual_seed(0)


def refined(kind: str, **settings: Any) -> mixcoder.Autoencoder:
    """A model of a kind with refinement, all its parameters random."""
    name, arguments = MODELS.get(kind, (kind, {}))
    model = mixcoder.create_model(name, image_shape=SHAPE, **arguments, refine={"steps": 2, **settings})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return model


def refinement_of(model: mixcoder.Autoencoder) -> CodeRefinement:
    assert model.refinement is not None
    return model.refinement


def by_hand(model: mixcoder.Autoencoder, images: Tensor, steps: int) -> Tensor:
    """The formula as it stands, with a whole Jacobian for each image."""
    settings = refinement_of(model)
    latents = model._encode(images)
    for step in range(steps):
        matrix = settings.matrices[min(step, settings.steps - 1)]
        changes = []
        for image, latent in zip(images, latents, strict=True):
            flat = latent.flatten()

            def values_of(z: Tensor, shape: torch.Size = latent.shape) -> Tensor:
                return model._decode_before_output(z.view(1, *shape)).flatten()

            jacobian = torch.autograd.functional.jacobian(values_of, flat, create_graph=True)  # type: ignore[no-untyped-call]
            error = model.decode(latent[None]).flatten() - image.flatten()
            gradient = jacobian.t() @ error
            change = matrix @ gradient if matrix.dim() == 2 else matrix * gradient
            changes.append(change * min(1.0, settings.trust_radius / float(change.detach().norm())))
        latents = latents - torch.stack(changes).view_as(latents)
    return latents


# ── the formula ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("matrix", ["full", "diagonal"])
@pytest.mark.parametrize("kind", [*MODELS, "plugged"])
def test_every_model_is_refined_by_the_formula(kind: str, matrix: str) -> None:
    model, images = refined(kind, matrix=matrix, trust_radius=0.1).eval(), torch.rand(3, *SHAPE)
    assert sum(p.numel() for p in refinement_of(model).parameters()) == (
        2 * math.prod(model.latent_shape) ** (2 if matrix == "full" else 1)
    )
    for steps in range(6):
        found = model.encode(images, steps=steps)
        assert found.shape == (3, *model.latent_shape)
        torch.testing.assert_close(found, by_hand(model, images, steps), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.encode(images), model.encode(images, steps=2))
    torch.testing.assert_close(model(images), model.decode(model.encode(images, steps=2)))


@pytest.mark.parametrize("kind", [*MODELS, "plugged"])
def test_no_step_is_the_encoder_alone(kind: str) -> None:
    model, images = refined(kind), torch.rand(3, *SHAPE)
    assert torch.equal(model.encode(images, steps=0), model._encode(images))


def test_further_steps_repeat_the_last_matrix() -> None:
    model, images = refined("stack").eval(), torch.rand(2, *SHAPE)
    longer = refined("stack", steps=4).eval()
    state = model.state_dict()
    matrices = state.pop("refinement.matrices")
    longer.load_state_dict(state, strict=False)
    with torch.no_grad():
        refinement_of(longer).matrices.copy_(matrices[[0, 1, 1, 1]])
    torch.testing.assert_close(model.encode(images, steps=4), longer.encode(images))


@pytest.mark.parametrize("radius", [0.001, 0.3])
def test_no_step_is_longer_than_the_trust_radius(radius: float) -> None:
    model, images = refined("stack", first_step=100.0, trust_radius=radius).eval(), torch.rand(8, *SHAPE)
    before = model.encode(images, steps=0)
    for steps in range(1, 5):
        after = model.encode(images, steps=steps)
        assert (after - before).norm(dim=1).max() <= radius * (1 + 1e-4)
        before = after
    assert (model.encode(images, steps=1) - model.encode(images, steps=0)).norm(dim=1).min() > radius * 0.99


def test_a_short_step_stays_as_it_is_and_no_gradient_gives_no_step() -> None:
    refinement = CodeRefinement((3,), 1, first_step=0.1)
    gradient = torch.tensor([[1.0, 2.0, 2.0], [0.0, 0.0, 0.0], [30.0, 0.0, 40.0]], requires_grad=True)
    change = refinement._bounded(gradient, 0)
    expected = torch.tensor([[0.1, 0.2, 0.2], [0.0, 0.0, 0.0], [0.6, 0.0, 0.8]])
    torch.testing.assert_close(change, expected)
    change.sum().backward()  # type: ignore[no-untyped-call]
    assert gradient.grad is not None
    assert gradient.grad.isfinite().all()


def test_it_begins_as_a_small_step_down() -> None:
    for matrix, start in (
        ("full", 0.05 * torch.eye(4).repeat(2, 1, 1)),
        ("diagonal", torch.full((2, 4), 0.05)),
    ):
        assert torch.equal(CodeRefinement((2, 2), 2, matrix).matrices, start)  # type: ignore[arg-type]
    model, images = (
        mixcoder.create_model("cnn", image_shape=SHAPE, **MODELS["cnn"][1], refine={"steps": 3}),
        torch.rand(4, *SHAPE),
    )
    errors = [(model.decode(model.encode(images, steps=n)) - images).square().mean() for n in range(6)]
    assert all(after < before for before, after in pairwise(errors))


def test_the_output_activation_is_left_out_of_the_gradient() -> None:
    """A pixel at the end of a sigmoid would otherwise never be corrected."""
    model = refined("stack")
    with torch.no_grad():
        model.to_pixels.bias.fill_(40.0)  # type: ignore[union-attr, operator]
    images = torch.zeros(2, *SHAPE)
    assert torch.equal(model.decode(model.encode(images, steps=0)), torch.ones(2, *SHAPE))
    moved = model.encode(images, steps=1) - model.encode(images, steps=0)
    assert moved.norm(dim=1).min() > 0.01


@pytest.mark.parametrize("kind", ["stack", "clamp", "cnn"])
def test_gradients_through_it(kind: str) -> None:
    """Against finite differences, in float64: second derivatives included."""
    model, images = refined(kind, trust_radius=10.0).double(), torch.rand(1, *SHAPE, dtype=torch.float64)
    chosen = [
        parameter for name, parameter in model.named_parameters() if name.endswith(("bias", "matrices"))
    ][-3:]

    def loss(*_: Tensor) -> Tensor:
        mean: Tensor = (model(images) - images).square().mean()
        return mean

    assert torch.autograd.gradcheck(loss, tuple(chosen), atol=1e-7)


def test_it_works_in_inference_mode_and_without_gradients() -> None:
    model, images = refined("stack").eval(), torch.rand(3, *SHAPE)
    expected = model.encode(images).detach()
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            torch.testing.assert_close(model.encode(images), expected)


# ── numbers that clash ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"steps": 0}, "refine.steps: must be at least 1, not 0"),
        ({"steps": MOST_STEPS + 1}, "refine.steps: must be at most 64, not 65"),
        ({"steps": 2.5}, "refine.steps: must be a whole number, not 2.5"),
        ({"steps": True}, "refine.steps: must be a whole number, not true"),
        ({}, "refine.steps: is missing"),
        ({"step": 2}, "refine.step: unknown key 'step'; did you mean 'steps'?"),
        ({"steps": 1, "matrix": "ful"}, "refine.matrix: unknown name 'ful'; did you mean 'full'?"),
        ({"steps": 1, "trust_radius": 0}, "refine.trust_radius: must be above 0, not 0"),
        ({"steps": 1, "first_step": math.inf}, "refine.first_step: must be a finite number above 0, got inf"),
        (2, "refine: must be a map, such as {steps: 2}, not 2"),
        ("on", "refine: must be a map, such as {steps: 2}, not the text 'on'"),
    ],
)
@pytest.mark.parametrize("kind", ["mixer", "plugged"])
def test_clear_errors(settings: Any, sentence: str, kind: str) -> None:
    name, arguments = MODELS.get(kind, (kind, {}))
    with pytest.raises(ArgumentError, match=re.escape(sentence)):
        mixcoder.create_model(name, image_shape=SHAPE, **arguments, refine=settings)


def test_a_code_too_large_for_matrices() -> None:
    sentence = "refine.matrix: must be diagonal for a code of 2,048 numbers; full goes up to 1,024"
    with pytest.raises(ArgumentError, match=sentence):
        mixcoder.create_model("plugged", image_shape=SHAPE, latent_dim=1024, refine={"steps": 1})
    model = mixcoder.create_model(
        "plugged", image_shape=SHAPE, latent_dim=1024, refine={"steps": 1, "matrix": "diagonal"}
    )
    assert refinement_of(model).matrices.shape == (1, 2048)


def test_steps_at_evaluation() -> None:
    model, plain, images = (
        refined("cnn"),
        mixcoder.create_model("plugged", image_shape=SHAPE),
        torch.rand(1, *SHAPE),
    )
    for steps in (-1, 65, 1.0, True, "2"):
        with pytest.raises(ArgumentError, match="steps: must be a whole number from 0 to 64, got"):
            model.encode(images, steps=steps)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="steps: must be 0 for a model without `refine`, got 2"):
        plain.encode(images, steps=2)
    assert torch.equal(plain.encode(images, steps=0), plain.encode(images))
    assert mixcoder.create_model("plugged", image_shape=SHAPE, refine=None).refinement is None


def test_the_defaults_in_a_file_are_those_of_the_constructor() -> None:
    keys = TypeAdapter(RefineSettings).json_schema()["properties"]
    stated = {key: schema["default"] for key, schema in keys.items() if "default" in schema}
    parameters = inspect.signature(CodeRefinement).parameters
    assert stated == {key: parameters[key].default for key in ("matrix", "first_step", "trust_radius")}


# ── steps of training ────────────────────────────────────────────────────────────────────────────────


def shipped_network() -> mixcoder.Autoencoder:
    """The network of 50,000 parameters, with random values in all of them."""
    name, arguments = read_experiment(shipped_folder() / "small-and-powerful" / "50k.yml").runs[0].model
    model = mixcoder.create_model(name, image_shape=(1, 28, 28), **arguments)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.02)
    return model.train()


@needs_compiler
@pytest.mark.parametrize("kind", [*MODELS, "plugged"])
def test_a_native_step(kind: str) -> None:
    model, batch = refined(kind).train(), torch.randint(0, 256, (4, *SHAPE), dtype=torch.uint8)
    assert missing_operation(model) is None
    of = StepSpec(model, FlatParameters(model), "mse", batch, shards=2)
    found, loss = NativeStep(of)(batch)
    expected, right_loss = eager_gradients(of)(batch)
    torch.testing.assert_close(loss, right_loss, rtol=1e-5, atol=1e-7)
    assert (found - expected).norm() <= 1e-4 * expected.norm()


@slow
@needs_compiler
def test_a_native_step_of_the_shipped_network() -> None:
    model, batch = shipped_network(), torch.randint(0, 256, (4, 1, 28, 28), dtype=torch.uint8)
    assert missing_operation(model) is None
    of = StepSpec(model, FlatParameters(model), "mse", batch)
    found, loss = NativeStep(of)(batch)
    expected, right_loss = eager_gradients(of)(batch)
    torch.testing.assert_close(loss, right_loss)
    assert (found - expected).norm() <= 1e-4 * expected.norm()


@slow
@needs_compiler
@pytest.mark.xdist_group("compiling")
def test_a_compiled_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a small network: Inductor takes minutes for the second derivatives of a deep one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model, batch = refined("stack").train(), torch.randint(0, 256, (4, *SHAPE), dtype=torch.uint8)
    of = StepSpec(model, FlatParameters(model), "mse", batch)
    expected, loss = eager_gradients(of)(batch)
    before = of.parameters.vector.detach().clone()
    optimizer = torch.optim.SGD([of.parameters.vector], 1.0)
    step, built = build_step(
        StepSpec(model, of.parameters, "mse", batch, [optimizer]), BackendChoice(INDUCTOR, torch.float32)
    )
    assert built.backend is INDUCTOR
    torch.testing.assert_close(step(batch), loss)
    found = before - of.parameters.vector.detach()
    assert (found - expected).norm() <= 1e-4 * expected.norm()


# ── runs ─────────────────────────────────────────────────────────────────────────────────────────────

RUN = """\
name: mine
data: {source: digits}
model:
  type: stack
  patch_size: 4
  latent_dim: 4
  code_channels: 4
  encoder: [{channels: 8}]
  decoder: [{channels: 8, bias: position}, {repeat: 2, layers: [{mixer: kronecker}, {channels: 8}]}, film]
  output_activation: {name: sigmoid, scale: 8, offset: -2}
  refine: {steps: 2, trust_radius: 0.5}
training: {inputs: 640, batch_size: 32, optimizer: muon, seed: 3}
"""


def test_a_run_directory_holds_it(cli: Cli) -> None:
    Path("mine.yml").write_text(RUN)
    assert cli("run", "mine.yml")[0] == 0
    [config] = Path().rglob("config.yml")
    model = mixcoder.load(config.parent)
    refinement = refinement_of(model)
    assert (refinement.steps, refinement.trust_radius) == (2, 0.5)
    assert not torch.equal(refinement.matrices, CodeRefinement((4,), 2).matrices), "trained"
    images = torch.rand(5, *model.image_shape)
    codes = [model.encode(images, steps=steps) for steps in range(6)]
    torch.testing.assert_close(model.encode(images), codes[2])
    assert all(not torch.allclose(one, other) for one, other in pairwise(codes))
    assert "refine" in config.read_text()
    assert cli("run", "mine.yml")[0] == 0, "which is done already"


# ── names of a plugin's own ──────────────────────────────────────────────────────────────────────────


def test_a_plugin_that_uses_the_names_of_a_refinement_is_told() -> None:
    class Attribute(Plugged):
        def __init__(self, image_shape: Sequence[int]) -> None:
            super().__init__(image_shape)
            self.refinement = nn.Linear(3, 3)  # type: ignore[assignment]

    class Method(Plugged):
        def refinement(self) -> None:  # type: ignore[override]
            pass

    class Argument(Plugged):
        def __init__(self, image_shape: Sequence[int], refine: int = 2) -> None:
            super().__init__(image_shape)

    class Half(Plugged):
        def _output(self, values: Tensor) -> Tensor:
            return values.sigmoid()

    taken = "of its own, a name that the key `refine` of every model takes; rename it"
    for model, sentence in (
        (Attribute, f"model 'mine' has an attribute `refinement` {taken}"),
        (Method, f"model 'mine' has an attribute `refinement` {taken}"),
        (Argument, f"refine: model 'mine' has an argument `refine` {taken}"),
        (Half, "has a method `_output` without `_decode_before_output`; add that one, or rename it"),
    ):
        mixcoder.models.MODELS._entries["mine"] = model
        for refine in (None, {"steps": 1}):
            with pytest.raises(ArgumentError, match=re.escape(sentence)):
                mixcoder.create_model("mine", image_shape=SHAPE, refine=refine)


@pytest.mark.parametrize("attribute", ["residual_scale", "norm", "act"])
def test_a_mixing_layer_that_sets_what_the_model_sets_is_told(attribute: str) -> None:
    class Scaled(mixcoder.MixingLayer):
        def __init__(self, grid: tuple[int, int], channels: int, kernel_size: int) -> None:
            super().__init__()
            is_scale = attribute == "residual_scale"
            setattr(
                self, attribute, nn.Parameter(torch.ones(channels)) if is_scale else nn.LayerNorm(channels)
            )

        def mix(self, x: Tensor) -> Tensor:
            return x

    mixcoder.register_mixer("scaled")(Scaled)
    sentence = f"Scaled sets its attribute `{attribute}`, which the model sets; give it another name"
    with pytest.raises(ArgumentError, match=sentence):
        mixcoder.create_model("mixer", image_shape=SHAPE, **MODELS["mixer"][1], mixer="scaled")


# ── a plugin that leaves a refinement no place ───────────────────────────────────────────────────────


class Narrow(Plugged):
    """Its own `encode` knows of no steps."""

    def encode(self, images: Tensor) -> Tensor:  # type: ignore[override]
        return super().encode(images) * 2


class Deaf(Plugged):
    """Its own `encode` refines nothing."""

    def encode(self, images: Tensor, steps: int | None = None) -> Tensor:
        return self._encode(images)


class Direct(Plugged):
    """Its own `forward` goes round `encode`."""

    def forward(self, images: Tensor) -> Tensor:
        return self._decode(self._encode(images))


class Noisy(Plugged):
    """Its own `forward` goes by way of `encode`."""

    def forward(self, images: Tensor) -> Tensor:
        codes = self.encode(images)
        return self.decode(codes + torch.randn_like(codes))


def create_mine(model: type[mixcoder.Autoencoder], refine: Any) -> mixcoder.Autoencoder:
    mixcoder.models.MODELS._entries["mine"] = model
    return mixcoder.create_model("mine", image_shape=SHAPE, refine=refine)


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (
            Narrow,
            "refine: needs `encode(self, images, steps=None)`, and `encode` of model 'mine' has no `steps`",
        ),
        (
            Deaf,
            "refine: has no effect on model 'mine', whose own `encode` does not call that of "
            "mixcoder.Autoencoder",
        ),
        (Direct, "refine: has no effect on model 'mine', whose own `forward` does not call `encode`"),
    ],
)
def test_a_plugin_that_would_not_be_refined_is_told(model: type[mixcoder.Autoencoder], sentence: str) -> None:
    with pytest.raises(ArgumentError, match=re.escape(sentence)):
        create_mine(model, {"steps": 1})
    for device in ("cpu", "meta"):
        with torch.device(device):
            assert create_mine(model, None).refinement is None
            assert create_mine(Noisy, {"steps": 1}).refinement is not None


def test_steps_of_a_plugin_whose_encode_takes_none() -> None:
    model = create_mine(Narrow, None)
    expected = mixcoder.encode(model, "digits:0").latents
    assert torch.equal(mixcoder.encode(model, "digits:0", steps=0).latents, expected)
    for steps, sentence in ((1, "must be 0 for a model without `refine`"), (True, "must be a whole number")):
        for use in (mixcoder.encode, mixcoder.score):
            with pytest.raises(ArgumentError, match=f"steps: {sentence}"):
                use(model, "digits:0", steps=steps)


class Cut(Plugged):
    """A decoder through which no gradient comes."""

    def _decode(self, latents: Tensor) -> Tensor:
        return super()._decode(latents.detach())


class Argmax(Plugged):
    """Codes are whole numbers."""

    def _encode(self, images: Tensor) -> Tensor:
        return (super()._encode(images) * 9).long()

    def _decode(self, latents: Tensor) -> Tensor:
        return super()._decode(latents.float())


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_decoder_without_a_gradient_is_told(device: str) -> None:
    sentence = "refine: has no effect on model 'mine': no gradient comes through its decoder to the code"
    with torch.device(device), pytest.raises(ArgumentError, match=sentence):
        create_mine(Cut, {"steps": 1})
    assert create_mine(Cut, None).refinement is None


def test_codes_that_are_whole_numbers_are_not_refined() -> None:
    model = create_mine(Argmax, {"steps": 1})
    sentence = "refine: needs codes of floating point numbers, and those of this model are torch.int64"
    for use in (model, model.encode):
        with pytest.raises(ArgumentError, match=sentence):
            use(torch.rand(2, *SHAPE))
    assert torch.equal(model.encode(torch.ones(1, *SHAPE), 0), model._encode(torch.ones(1, *SHAPE)))


def test_a_model_made_in_inference_mode_refines_outside() -> None:
    with torch.inference_mode():
        model = refined("stack")
    assert not any(parameter.is_inference() for parameter in model.parameters())
    expected = model.encode(torch.rand(2, *SHAPE), steps=3)
    assert expected.isfinite().all()
    assert mixcoder.encode(model, "digits:0", steps=3).latents.isfinite().all()
    assert mixcoder.score(model, "digits:0")[0].mse >= 0
    model(torch.rand(2, *SHAPE)).sum().backward()


@pytest.mark.parametrize("change", [nn.Module.double, deepcopy])
def test_a_model_changed_in_inference_mode_is_told(
    change: Callable[[nn.Module], mixcoder.Autoencoder],
) -> None:
    with torch.inference_mode():
        model = change(refined("stack"))
        assert mixcoder.encode(model, "digits:0", steps=0).latents.isfinite().all()
    sentence = "the model has weights made in torch.inference_mode(); build, copy or convert it outside"
    for use in (mixcoder.encode, mixcoder.score):
        with pytest.raises(ArgumentError, match=re.escape(sentence)):
            use(model, "digits:0")
