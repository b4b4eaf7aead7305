"""Trained models by name: made of run directories, listed, loaded and used, and never taken for others."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from benchmarks.named_models import EXPERIMENTS, NAMED, Named, make_trained_model

import mixcoder
from mixcoder.data import load_data, to_float
from mixcoder.data.sources.mnist import Mnist
from mixcoder.errors import ArgumentError, MixcoderError, RunDirectoryError
from mixcoder.experiments.file.spec import read_experiment
from mixcoder.experiments.runs.model_files import hash_weights
from mixcoder.experiments.runs.run_directory import RunDirectory
from mixcoder.experiments.runs.training_run import train_run
from mixcoder.inference import Codes
from mixcoder.models import named
from mixcoder.models.named import CARD, read_card, trained_names
from mixcoder.training.evaluation import validation_loss
from tests.conftest import Cli, slow

EXPERIMENT = """\
name: tiny
data: {source: digits}
model: {type: mixer, patch_size: 4, hidden_channels: [9], latent_dim: 6, mixer_at: [1]}
training: {inputs: 640, seed: "${seed}"}
matrix: {seed: [5, 6]}
"""
NAME = "mixcoder-tiny-digits"
SHIPPED = named.TRAINED


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs of two seeds, and the trained model that is made of them."""
    folder = tmp_path_factory.mktemp("named")
    (folder / "tiny.yml").write_text(EXPERIMENT)
    for run in read_experiment(folder / "tiny.yml").runs:
        train_run(run, folder / "runs", lambda loop, progress: None)
    source = Named(str(folder / "tiny.yml"), "A network to test with.")
    make_trained_model(NAME, source, folder / "runs", folder / "trained")
    return folder


@pytest.fixture
def trained(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a trained model, which the package has; nothing else is in the current folder."""
    shutil.copytree(made / "trained", tmp_path / "trained")
    monkeypatch.setattr(named, "TRAINED", tmp_path / "trained")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "trained" / NAME


def results(made: Path) -> list[float]:
    """The losses of the seeds, the first seed's first."""
    runs = read_experiment(made / "tiny.yml").runs
    read = [RunDirectory.of(run, made / "runs").read_result() for run in runs]
    return [result["validation_loss"] for result in read if result]


def test_the_weights_are_the_first_seeds_and_the_card_is_of_all(made: Path, trained: Path) -> None:
    losses = results(made)
    card = read_card(trained / CARD)
    assert (card.seed, card.n, card.data) == (5, 2, "digits")
    assert card.validation_loss == pytest.approx(sum(losses) / 2, rel=1e-12)
    assert card.validation_loss_std == pytest.approx(abs(losses[0] - losses[1]) / math.sqrt(2))
    assert card.own_validation_loss == pytest.approx(losses[0], rel=1e-5)
    assert card.own_validation_loss != pytest.approx(losses[1], rel=1e-5)
    model = mixcoder.load(NAME)
    assert hash_weights(model) == card.weights_sha256
    images = to_float(load_data("digits").validation.images)
    with torch.inference_mode():
        loss = torch.nn.functional.mse_loss(model(images), images).item()
    assert loss == pytest.approx(card.own_validation_loss, rel=1e-6)


def test_weights_are_halved_where_that_changes_no_loss(made: Path, tmp_path: Path) -> None:
    """Those of a run that are float16 already, and no others."""
    shutil.copytree(made / "runs", tmp_path / "runs")
    source = Named(str(made / "tiny.yml"), "A network to test with.")
    first = RunDirectory.of(read_experiment(made / "tiny.yml").runs[0], tmp_path / "runs")
    model = mixcoder.load(first.path)
    rounded = {key: value.half().float() for key, value in model.state_dict().items()}
    model.load_state_dict(rounded)
    name, arguments = first.read_run().model
    first.write_model(model, name, arguments)
    card = make_trained_model("a", source, tmp_path / "runs", tmp_path / "out")
    assert card.weights == "float16"
    loaded = mixcoder.load(tmp_path / "out" / "a")
    assert {value.dtype for value in loaded.state_dict().values()} == {torch.float32}
    assert all(torch.equal(value, rounded[key]) for key, value in loaded.state_dict().items())
    half = (tmp_path / "out" / "a" / "model.safetensors").stat().st_size
    assert half < 0.7 * (first.path / "model.safetensors").stat().st_size

    with torch.no_grad():
        next(iter(model.parameters())).mul_(1e6)  # beyond float16
    first.write_model(model, name, arguments)
    assert make_trained_model("a", source, tmp_path / "runs", tmp_path / "out").weights == "float32"


def test_runs_that_differ_in_more_than_the_seed_make_no_model(made: Path, tmp_path: Path) -> None:
    text = EXPERIMENT.replace("latent_dim: 6", "latent_dim: '${dim}'").replace(
        "{seed: [", "{dim: [6, 7], seed: ["
    )
    (tmp_path / "wide.yml").write_text(text)
    with pytest.raises(ArgumentError, match=r"must differ in training.seed alone, but differ in .*dim"):
        make_trained_model("a", Named(str(tmp_path / "wide.yml"), ""), made / "runs", tmp_path / "out")
    with pytest.raises(ArgumentError, match="the run of the first seed is open"):
        make_trained_model("a", Named(str(made / "tiny.yml"), ""), tmp_path / "none", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("trained")
def test_create_model_builds_one_like_it_without_its_weights() -> None:
    torch.manual_seed(0)
    model = mixcoder.create_model(NAME)
    assert model.image_shape == (1, 8, 8)
    assert model.state_dict().keys() == mixcoder.load(NAME).state_dict().keys()
    assert hash_weights(model) != hash_weights(mixcoder.load(NAME))
    changed = mixcoder.create_model(NAME, image_shape=(3, 16, 16), latent_dim=4)
    assert (changed.image_shape, changed.latent_shape) == ((3, 16, 16), (4,))
    with pytest.raises(ArgumentError, match="latent_dimm: unknown.*did you mean 'latent_dim'"):
        mixcoder.create_model(NAME, latent_dimm=4)
    with pytest.raises(ArgumentError, match=f"type: unknown model '{NAME[:-1]}'; did you mean '{NAME}'?"):
        mixcoder.create_model(NAME[:-1])


@pytest.mark.usefixtures("trained")
def test_functions_take_a_name() -> None:
    codes = mixcoder.encode(NAME, "digits:3")
    assert codes.latents.shape == (1, 6)
    images = mixcoder.decode(NAME, codes)
    with torch.inference_mode():
        image = to_float(load_data("digits").validation.images[3:4])
        assert torch.equal(images, mixcoder.load(NAME)(image))
    assert mixcoder.score(NAME, "digits:3")[0].name == "digits:3"
    assert mixcoder.walk(NAME, "digits:0", "digits:1", 3).shape == (3, 1, 8, 8)


def test_commands_take_a_name(cli: Cli, trained: Path) -> None:
    assert cli("encode", NAME, "digits:3", "-o", "c.safetensors")[0] == 0
    assert len(Codes.open("c.safetensors")) == 1
    assert cli("decode", NAME, "c.safetensors", "-o", "x.png")[:2] == (0, "x.png\n")
    assert cli("score", NAME, "digits:3")[1].splitlines()[1].startswith("digits:3,")
    assert cli("reconstruct", NAME, "-n", 3, "-o", "y.png")[0] == 0
    assert cli("walk", NAME, "digits:0", "digits:1", "-o", "z.png")[0] == 0
    files = [CARD, "config.yml", "model.json", "model.safetensors"]
    assert sorted(path.name for path in trained.iterdir()) == files


def test_export_takes_a_name(cli: Cli, trained: Path) -> None:
    pytest.importorskip("onnx")
    status, out, err = cli("export", NAME, "-o", "onnx")
    assert (status, out.split()) == (0, ["onnx/encoder.onnx", "onnx/decoder.onnx"]), err
    import onnx

    stated = {entry.key: entry.value for entry in onnx.load("onnx/encoder.onnx").metadata_props}
    assert json.loads(stated["weights_sha256"]) == read_card(trained / CARD).weights_sha256


@pytest.mark.usefixtures("trained")
def test_listings_show_it(cli: Cli) -> None:
    rows = {row["name"]: row for row in json.loads(cli("models", "ls", "--format", "json")[1])}
    assert rows[NAME]["kind"] == "trained"
    assert "parameters, validation loss 0." in rows[NAME]["summary"]
    assert "(n = 2), trained on digits, Apache-2.0" in rows[NAME]["summary"]
    out = cli("models", "show", NAME)[1]
    assert "latent shape (6,)" in out
    assert "A network to test with." in out
    assert "seed 5" in out
    changed = cli("models", "show", NAME, "latent_dim=3")[1]
    assert "latent shape (3,)" in changed
    assert "A network to test with." not in changed


def test_a_folder_of_the_name_comes_first(cli: Cli, made: Path, trained: Path) -> None:
    second = RunDirectory.of(read_experiment(made / "tiny.yml").runs[1], made / "runs")
    shutil.copytree(second.path, NAME)
    assert hash_weights(mixcoder.load(NAME)) == hash_weights(mixcoder.load(second.path))
    assert hash_weights(mixcoder.load(NAME)) != read_card(trained / CARD).weights_sha256
    shutil.rmtree(NAME)
    Path(NAME).mkdir()
    with pytest.raises(RunDirectoryError, match="hides the trained model of this name"):
        mixcoder.load(NAME)
    assert cli("score", NAME, "digits:3")[0] == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", NAME.replace("tiny", "tny"), "digits"], f"did you mean '{NAME}'?"),
        (["score", NAME, "digits", "--where", "mixer=cnn"], "is one trained model, not several runs"),
        (["table", NAME], f"mixcoder models show {NAME} shows its figures"),
        (["models", "show", NAME.replace("tiny", "tny")], f"did you mean '{NAME}'?"),
        (["score", f"../{NAME}", "digits"], f"did you mean '{NAME}'?"),
    ],
    ids=["misspelt", "conditions", "not runs", "not shown", "a path"],
)
@pytest.mark.usefixtures("trained")
def test_a_name_in_the_wrong_place_is_one_sentence(cli: Cli, arguments: list[str], message: str) -> None:
    status, _, err = cli(*arguments)
    assert status == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.usefixtures("trained")
def test_there_are_no_best_weights() -> None:
    with pytest.raises(ArgumentError, match="leave out weights='best'"):
        mixcoder.load(NAME, "best")


def test_damage_is_found(trained: Path) -> None:
    weights = trained / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(RunDirectoryError, match=r"are not the weights that card.json states"):
        mixcoder.load(NAME)
    weights.write_bytes(whole[:-10])
    with pytest.raises(RunDirectoryError):
        mixcoder.load(NAME)
    weights.write_bytes(whole)
    (trained / CARD).write_text('{"summary": "x"}')
    with pytest.raises(RunDirectoryError, match=r"card.json: .*is missing"):
        mixcoder.load(NAME)
    description = json.loads((trained / "model.json").read_text())
    (trained / "model.json").write_text(json.dumps(description | {"weights": "float8"}))
    with pytest.raises(RunDirectoryError, match="does not describe a model: weights"):
        mixcoder.load(NAME)


@pytest.mark.parametrize("name", trained_names())
def test_what_is_shipped_loads_and_is_what_its_card_says(name: str) -> None:
    assert name in NAMED
    card = read_card(SHIPPED / name / CARD)
    model = mixcoder.load(name)
    assert sum(parameter.numel() for parameter in model.parameters()) == card.params
    limit = 1_000 * int(name.split("-")[1].removesuffix("k"))
    assert card.params <= limit
    assert model.image_shape == (1, 28, 28)
    run = RunDirectory(SHIPPED / name).read_run()
    assert run.recipe.seed == card.seed
    assert run.digest == read_experiment(EXPERIMENTS / NAMED[name].file).runs[0].digest
    assert model(torch.rand(2, 1, 28, 28)).shape == (2, 1, 28, 28)


@slow
@pytest.mark.parametrize("name", trained_names())
def test_what_is_shipped_is_the_same_as_onnx(name: str, tmp_path: Path) -> None:
    """Steps of refinement included; export_onnx compares with torch to 1e-5, and writes nothing else."""
    pytest.importorskip("onnx")
    assert [path.name for path in mixcoder.export_onnx(name, tmp_path)] == ["encoder.onnx", "decoder.onnx"]


@slow
@pytest.mark.parametrize("name", trained_names())
def test_what_is_shipped_has_the_loss_of_its_card(name: str, mnist_folder: Path) -> None:
    card = read_card(SHIPPED / name / CARD)
    images = Mnist().load().validation
    assert validation_loss(mixcoder.load(name), images, "mse") == pytest.approx(
        card.own_validation_loss, rel=1e-4
    )


def test_each_name_is_shipped() -> None:
    assert all((EXPERIMENTS / source.file).is_file() for source in NAMED.values())
    assert NAMED.keys() == set(trained_names())


def test_what_is_shipped_is_whole_and_small() -> None:
    files = [path for path in SHIPPED.rglob("*") if path.is_file()]
    parts = (CARD, "config.yml", "model.json", "model.safetensors")
    assert {path.relative_to(SHIPPED).as_posix() for path in files} == {
        f"{name}/{part}" for name in trained_names() for part in parts
    }
    assert all(path.stat().st_size for path in files)
    assert sum(path.stat().st_size for path in files) < 2_000_000


def test_an_odd_name_is_no_trained_model() -> None:
    for odd in ("", ".", "..", "../trained", "a/b"):
        assert not named.is_trained_name(odd)
        with pytest.raises(MixcoderError):
            mixcoder.create_model(odd)
    with pytest.raises(ArgumentError, match="a model has a name"):
        mixcoder.create_model([])  # type: ignore[arg-type]
