"""The training loop: it learns, repeats itself exactly, goes on exactly, and stops when it must."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mixcoder import train
from mixcoder.backends.muon import Muon
from mixcoder.data import ImageData, ImageSplit, load_data, to_float
from mixcoder.errors import ArgumentError, RunDirectoryError, TrainingError
from mixcoder.models import Autoencoder, create_model
from mixcoder.training.optimizers import set_learning_rate
from mixcoder.training.recipe import Recipe
from mixcoder.training.schedules import learning_rate_at
from mixcoder.training.training_loop import TrainingLoop
from tests.conftest import needs_compiler, slow_but, training_images


def tiny_mixer(seed: int = 0) -> Autoencoder:
    torch.manual_seed(seed)
    return create_model(
        "mixer",
        image_shape=(1, 4, 6),
        patch_size=2,
        hidden_channels=[9, 9],
        latent_dim=4,
        mixer_at=[1],
        mixer="cnnf",
    )


def tiny_stack() -> Autoencoder:
    """A refined network, in the form of the small and powerful ones."""
    torch.manual_seed(0)
    return create_model(
        "stack",
        image_shape=(1, 4, 6),
        patch_size=2,
        latent_dim=4,
        code_channels=3,
        encoder=[{"channels": 5}],
        decoder=[{"channels": 6, "bias": "position"}, {"mixer": "kronecker"}, {"channels": 6}, "film"],
        output_activation={"name": "sigmoid", "scale": 8, "offset": -2},
        refine={"steps": 2},
    )


def loop(data: ImageData, model: Autoencoder | None = None, **settings: Any) -> TrainingLoop:
    recipe = Recipe(**{"batch_size": 8, "learning_rate": 0.01, **settings})
    return TrainingLoop(model or tiny_mixer(), data, recipe)


def weights(model: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
@pytest.mark.parametrize("loss", slow_but(1, ["mse", "l1", "huber"]))
def test_every_optimizer_and_loss_learns_real_digits(optimizer: str, loss: str) -> None:
    data = load_data("digits")
    torch.manual_seed(0)
    model = create_model(
        "mixer",
        image_shape=(1, 8, 8),
        patch_size=4,
        hidden_channels=[16],
        latent_dim=8,
        mixer_at=[1],
        mixer="mlp",
    )
    rate = {"adamw": 0.003, "muon": 0.003, "sgd": 0.1}[optimizer]
    run = TrainingLoop(
        model,
        data,
        Recipe(optimizer=optimizer, loss=loss, learning_rate=rate, inputs=20_000, validations=4),  # type: ignore[arg-type]
    )
    losses = [row.validation_loss for row in run.run() if row.validation_loss is not None]
    assert len(losses) == 4
    assert losses[-1] < 0.9 * losses[0]
    mean_image = to_float(training_images(data)).mean(dim=0)
    difference = to_float(data.validation.images) - mean_image
    constant = {"mse": difference**2, "l1": difference.abs(), "huber": difference**2 / 2}[loss].mean().item()
    assert losses[-1] < 0.8 * constant  # better than the best constant answer


def test_muon_takes_the_matrices_and_adamw_the_rest(tiny_data: ImageData) -> None:
    muon, adamw = loop(tiny_data, optimizer="muon", steps=1).optimizers
    assert isinstance(muon, Muon)
    assert isinstance(adamw, torch.optim.AdamW)
    assert {p.ndim for p in muon.param_groups[0]["params"]} == {2, 3}
    assert {p.ndim for p in adamw.param_groups[0]["params"]} == {1}


def test_weight_decay_is_the_optimizers_own_unless_stated(tiny_data: ImageData) -> None:
    assert loop(tiny_data, steps=1).optimizers[0].param_groups[0]["weight_decay"] == 0.01
    assert loop(tiny_data, steps=1, weight_decay=0.3).optimizers[0].param_groups[0]["weight_decay"] == 0.3


def test_a_step_is_the_textbooks(tiny_data: ImageData) -> None:
    """The loop against the few lines that everybody writes."""
    run = loop(tiny_data, steps=30, schedule="cosine", warmup_steps=3)
    rows = list(run.run())

    model = tiny_mixer()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    losses = []
    for step in range(30):
        rate = (step + 1) / 3 if step < 3 else (1 + math.cos(math.pi * (step - 3) / 27)) / 2
        optimizer.param_groups[0]["lr"] = 0.01 * rate
        indices = run._batches.indices(step)
        images = training_images(tiny_data)[indices] / 255
        loss = ((model(images) - images) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert [row.training_loss for row in rows] == pytest.approx(losses, rel=1e-4)
    torch.testing.assert_close(weights(run.model), weights(model), atol=1e-5, rtol=1e-4)


def test_progress_and_validations_fall_where_they_should(tiny_data: ImageData) -> None:
    run = loop(tiny_data, steps=1000, validations=7)
    rows = list(run.run())
    assert rows[-1].step == 1000
    assert rows[-1].inputs == run.total_inputs == 8000
    validated = [row.step for row in rows if row.validation_loss is not None]
    assert validated == [math.ceil(1000 * k / 7) for k in range(1, 8)]
    assert [row.step for row in rows] == sorted({*range(3, 1000, 3), 1000, *validated})
    assert rows[-1].learning_rate == pytest.approx(0.01 * (1 + math.cos(math.pi * 0.999)) / 2)


def test_more_validations_than_steps(tiny_data: ImageData) -> None:
    rows = list(loop(tiny_data, steps=3, validations=20).run())
    assert [row.validation_loss is not None for row in rows] == [True] * 3


def test_same_seed_same_weights_to_the_bit(tiny_data: ImageData) -> None:
    first, second = loop(tiny_data, steps=40), loop(tiny_data, steps=40)
    assert [row.training_loss for row in first.run()] == [row.training_loss for row in second.run()]
    assert torch.equal(weights(first.model), weights(second.model))
    other = loop(tiny_data, steps=40, seed=1)
    list(other.run())
    assert not torch.equal(weights(first.model), weights(other.model))


RESUMED: dict[str, dict[str, Any]] = {
    "adamw": {},
    "sgd": {"optimizer": "sgd"},
    "muon": {"optimizer": "muon", "vector_learning_rate": 0.003},
    "linear": {"schedule": "linear", "warmup_steps": 7},
    "wsd": {"schedule": "wsd", "decay_share": 0.5},
    "ema and clipping": {"ema": 0.99, "clip_norm": 0.1},
    "all": {"optimizer": "muon", "schedule": "wsd", "ema": 0.9, "clip_norm": 0.1},
}


@needs_compiler
@pytest.mark.parametrize(
    ("create", "optimizer"), [(tiny_mixer, "sgd"), (tiny_mixer, "muon"), (tiny_stack, "muon")]
)
def test_a_resumed_run_of_native_steps_is_the_undisturbed_one(
    tmp_path: Path, tiny_data: ImageData, create: Callable[[], Autoencoder], optimizer: str
) -> None:
    settings = {"optimizer": optimizer, "compile": "on", "ema": 0.9, "clip_norm": 0.1, "steps": 90}
    whole, first, second = (loop(tiny_data, create(), **settings) for _ in range(3))
    list(whole.run())
    assert str(whole.backend).startswith("native")
    for row in first.run():
        if row.step == 33:
            first.save(tmp_path / "checkpoint")
            break
    second.restore(tmp_path / "checkpoint")
    list(second.run())
    assert torch.equal(weights(second.model), weights(whole.model))
    with second.evaluated_weights(), whole.evaluated_weights():
        assert torch.equal(weights(second.model), weights(whole.model))


@pytest.mark.parametrize("settings", RESUMED.values(), ids=list(RESUMED))
def test_a_resumed_run_is_the_undisturbed_one_to_the_bit(
    tmp_path: Path, tiny_data: ImageData, settings: dict[str, Any]
) -> None:
    whole = loop(tiny_data, steps=900, **settings)
    expected = {row.step: (row.training_loss, row.validation_loss) for row in whole.run()}

    path = tmp_path / "checkpoint.safetensors"
    seen: dict[int, tuple[float, float | None]] = {}
    for stop in (1, 333, 600, 900):
        part = loop(tiny_data, steps=900, **settings)
        if path.exists():
            part.restore(path)
        for row in part.run():
            seen[row.step] = (row.training_loss, row.validation_loss)
            if row.step >= stop:
                part.save(path)
                break
    assert seen == expected
    assert torch.equal(weights(part.model), weights(whole.model))
    with part.evaluated_weights(), whole.evaluated_weights():
        assert torch.equal(weights(part.model), weights(whole.model))
    assert part.clock.inputs + part.clock.warmup_inputs == 7200


def test_gradients_are_clipped_as_torch_does(tiny_data: ImageData) -> None:
    run = loop(tiny_data, steps=10, clip_norm=0.05, optimizer="sgd", schedule="constant")
    list(run.run())
    model = tiny_mixer()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    norms = []
    for step in range(10):
        images = training_images(tiny_data)[run._batches.indices(step)] / 255
        optimizer.zero_grad()
        ((model(images) - images) ** 2).mean().backward()
        norms.append(nn.utils.clip_grad_norm_(model.parameters(), 0.05).item())
        optimizer.step()
    assert min(norms) > 0.05
    torch.testing.assert_close(weights(run.model), weights(model), atol=1e-5, rtol=1e-4)


def test_a_large_bound_clips_nothing(tiny_data: ImageData) -> None:
    clipped, free = (loop(tiny_data, steps=10, clip_norm=norm) for norm in (1e9, None))
    for run in (clipped, free):
        list(run.run())
    assert torch.equal(weights(clipped.model), weights(free.model))


def test_the_average_is_of_the_weights_after_each_step_and_of_no_others(tiny_data: ImageData) -> None:
    """Training goes on with the raw weights; the average is what is validated and what `train` leaves."""
    plain, averaged = (loop(tiny_data, steps=30, ema=decay, validations=1) for decay in (None, 0.8))
    [*_, last] = averaged.run()
    after_each = []
    step = plain.create_step()
    for index in range(30):
        set_learning_rate(plain.optimizers, learning_rate_at(index, 30, plain.recipe))
        step(plain._batches[index])
        after_each.append(weights(plain.model))
    factors = 0.8 ** torch.arange(30).flip(0)
    expected = (torch.stack(after_each) * factors[:, None]).sum(0) / factors.sum()
    assert torch.equal(weights(averaged.model), after_each[-1])
    with averaged.evaluated_weights():
        torch.testing.assert_close(weights(averaged.model), expected)
        assert averaged.validate() == last.validation_loss
    assert plain.validate() != last.validation_loss
    model = tiny_mixer()
    train(model, tiny_data, steps=30, ema=0.8, batch_size=8, learning_rate=0.01)
    torch.testing.assert_close(weights(model), expected)


def test_vectors_have_a_learning_rate_of_their_own(tiny_data: ImageData) -> None:
    run = loop(tiny_data, steps=4, optimizer="muon", vector_learning_rate=0.002, warmup_steps=2)
    next(run.run())
    rates = [group["lr"] for optimizer in run.optimizers for group in optimizer.param_groups]
    assert rates == pytest.approx([0.005, 0.001])


def test_dropout_goes_on_exactly_too(tmp_path: Path, tiny_data: ImageData) -> None:
    class Dropping(Autoencoder):
        image_shape = (1, 4, 6)
        latent_shape = (5,)

        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.decoder = nn.Linear(24, 5), nn.Linear(5, 24)

        def _encode(self, images: Tensor) -> Tensor:
            return nn.functional.dropout(self.encoder(images.flatten(1)), 0.5, self.training)

        def _decode(self, latents: Tensor) -> Tensor:
            images: Tensor = self.decoder(latents)
            return images.reshape(-1, 1, 4, 6)

    def run() -> TrainingLoop:
        torch.manual_seed(0)
        return TrainingLoop(Dropping(), tiny_data, Recipe(steps=20, batch_size=8))

    whole = run()
    list(whole.run())
    first = run()
    for row in first.run():
        if row.step == 9:
            first.save(tmp_path / "c")
            break
    second = run()
    torch.rand(100)
    second.restore(tmp_path / "c")
    list(second.run())
    assert torch.equal(weights(second.model), weights(whole.model))


def test_divergence_is_told_with_step_rate_and_hint(tiny_data: ImageData) -> None:
    run = loop(tiny_data, steps=500, optimizer="sgd", learning_rate=1e6)
    with pytest.raises(TrainingError) as caught:
        list(run.run())
    assert "the loss became " in str(caught.value)
    assert "with learning rate 1e+06; try a smaller learning_rate, such as 1e+05" in str(caught.value)


def test_the_exact_step_of_a_divergence_is_told(
    tiny_data: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = loop(tiny_data, steps=10_000)
    good = run.create_step()
    calls = 0

    def breaks_at_37(images: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return good(images) * (math.inf if calls == 37 else 1)

    monkeypatch.setattr(run, "create_step", lambda: breaks_at_37)
    with pytest.raises(TrainingError, match="the loss became inf at step 37 "):
        list(run.run())


def test_the_clock_leaves_out_what_is_not_training(tiny_data: ImageData) -> None:
    run = loop(tiny_data, steps=1000, validations=1)
    for row in run.run():
        if row.step > run.total_steps // 2:
            before = (run.clock.inputs, run.clock.seconds)
            run.validate()
            assert (run.clock.inputs, run.clock.seconds) == before
    assert run.clock.warmup_inputs == 3 * 8
    assert run.clock.inputs == 997 * 8
    assert run.clock.throughput == run.clock.inputs / run.clock.seconds


def test_data_of_another_shape_is_refused(tiny_data: ImageData) -> None:
    model = create_model("cnn", image_shape=(1, 6, 4), channels=[2], kernel_size=3, latent_dim=2)
    with pytest.raises(ArgumentError, match=r"the model takes \(1, 6, 4\), tiny has \(1, 4, 6\)"):
        TrainingLoop(model, tiny_data, Recipe(steps=1))


def test_fewer_images_than_a_batch() -> None:
    images = torch.randint(0, 256, (5, 1, 4, 6), dtype=torch.uint8)
    result = train(
        tiny_mixer(), ImageData("few", ImageSplit(images), ImageSplit(images)), epochs=13, batch_size=64
    )
    assert (result.steps, result.inputs) == (2, 128)


def test_checkpoints_of_something_else_are_refused(tmp_path: Path, tiny_data: ImageData) -> None:
    path = tmp_path / "c.safetensors"
    other = create_model("cnn", image_shape=(1, 4, 6), channels=[2], kernel_size=3, latent_dim=2)
    TrainingLoop(other, tiny_data, Recipe(steps=1)).save(path)
    with pytest.raises(RunDirectoryError, match="is not a checkpoint of this run"):
        loop(tiny_data, steps=1).restore(path)
    for content in (b"", b"garbage" * 10, path.read_bytes()[:-4]):
        path.write_bytes(content)
        with pytest.raises(RunDirectoryError, match="is not a readable checkpoint"):
            loop(tiny_data, steps=1).restore(path)
