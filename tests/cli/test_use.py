"""What `mixcoder encode`, `decode`, `score`, `walk`, `export` and `reconstruct` write, print and refuse."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

import mixcoder
from mixcoder.cli.selection import select_run
from mixcoder.data import load_data, to_float
from mixcoder.experiments.file.spec import read_experiment
from mixcoder.experiments.runs.training_run import train_run
from mixcoder.inference import Codes
from tests.conftest import Cli, slow

EXPERIMENT = """\
name: mine
data: {source: digits}
model: {type: mixer, patch_size: 4, hidden_channels: [9], latent_dim: 6, mixer_at: [1], mixer: "${mixer}"}
training: {inputs: 640}
matrix: {mixer: [cnn, mlp]}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished runs and their experiment file."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "mine.yml").write_text(EXPERIMENT)
    for run in read_experiment(folder / "mine.yml").runs:
        train_run(run, folder / "runs", lambda loop, progress: None)
    return folder


@pytest.fixture
def runs(cli: Cli, trained: Path) -> Path:
    """A copy of them; the command line stands beside it."""
    shutil.copytree(trained, ".", dirs_exist_ok=True)
    return Path("runs/mine")


def folder_of(runs: Path) -> Path:
    """The run of the mlp."""
    return select_run(runs, ["mixer=mlp"]).path


def picture(path: str) -> Image.Image:
    """A grey picture, its file closed again."""
    with Image.open(path) as opened:
        return opened.convert("L")


MLP = ("--where", "mixer=mlp")


def test_encode_and_decode_bring_the_reconstructions(cli: Cli, runs: Path) -> None:
    status, out, err = cli("encode", runs, "digits:3", "digits", *MLP, "-o", "codes.safetensors")
    assert (status, out) == (0, "codes.safetensors: 298 codes of shape (6,)\n")
    assert "Traceback" not in err
    codes = Codes.open("codes.safetensors")
    assert codes.names[:2] == ["digits:3", "digits:0"]
    assert torch.equal(codes.latents[0], codes.latents[4])

    assert cli("decode", runs, "codes.safetensors", *MLP, "-o", "out")[:2] == (0, "out: 298 images\n")
    files = sorted(path.name for path in Path("out").iterdir())
    assert len(files) == 298
    assert files[:2] == ["000-digits_3.png", "001-digits_0.png"]
    with torch.inference_mode():
        copy = mixcoder.load(folder_of(runs))(to_float(load_data("digits").validation.images[3:4])).clamp(
            0, 1
        )
    pixels = torch.tensor(list(picture("out/000-digits_3.png").tobytes()))
    assert torch.equal(pixels, (copy * 255).round().long().flatten())

    assert cli("decode", runs, "codes.safetensors", *MLP, "-o", "grid.png", "--scale", 1)[0] == 0
    assert picture("grid.png").size == (8 * 10 + 2, 38 * 10 + 2)  # 298 images of 8 x 8, a gap of 2


def test_codes_belong_to_their_model(cli: Cli, runs: Path) -> None:
    assert cli("encode", runs, "digits:3", *MLP, "-o", "codes.safetensors")[0] == 0
    status, out, err = cli("decode", runs, "codes.safetensors", "--where", "mixer=cnn", "-o", "out")
    assert (status, out) == (2, "")
    assert err == "error: the codes were made by a model with other weights; decode them with that one\n"
    assert not Path("out").exists()


def test_score_prints_csv_worst_first_and_draws_the_worst(cli: Cli, runs: Path) -> None:
    status, out, _ = cli("score", runs, "digits", *MLP, "--grid", "worst.png", "-n", 8, "--scale", 1)
    rows = list(csv.DictReader(io.StringIO(out)))
    errors = [float(row["mse"]) for row in rows]
    assert status == 0
    assert list(rows[0]) == ["name", "mse", "psnr"]
    assert len(rows) == 297
    assert errors == sorted(errors, reverse=True)
    worst = load_data("digits").validation.images[int(rows[0]["name"].partition(":")[2])]
    grid = picture("worst.png")
    assert grid.size == (8 * 10 + 2, 2 * 8 + 2 + 4)
    assert list(grid.crop((2, 2, 10, 10)).tobytes()) == worst.flatten().tolist()
    listed = json.loads(cli("score", runs, "digits", *MLP, "--format", "json")[1])
    assert [each["mse"] for each in listed] == errors


def test_codes_of_few_bits_are_small_and_decoded_alike(cli: Cli, runs: Path) -> None:
    status, out, _ = cli("encode", runs, "digits", *MLP, "--bits", 5, "-o", "few.safetensors")
    assert (status, out) == (0, "few.safetensors: 297 codes of shape (6,), 4 bytes each\n")
    assert cli("encode", runs, "digits", *MLP, "-o", "all.safetensors")[0] == 0
    assert torch.equal(
        Codes.open("few.safetensors").latents, Codes.open("all.safetensors").rounded(5).latents
    )
    assert Path("few.safetensors").stat().st_size < Path("all.safetensors").stat().st_size - 297 * 20
    assert cli("decode", runs, "few.safetensors", *MLP, "-o", "out")[:2] == (0, "out: 297 images\n")


def test_score_of_few_bits(cli: Cli, runs: Path) -> None:
    def error(*options: object) -> float:
        out = cli("score", runs, "digits", *MLP, *options, "--format", "json")[1]
        return sum(float(each["mse"]) for each in json.loads(out))

    assert error("--bits", 16) == pytest.approx(error(), rel=1e-3)
    assert error("--bits", 1) > error()
    assert "less than or equal to 16" in cli("score", runs, "digits", *MLP, "--bits", 17)[2]
    assert cli("score", runs, "digits:0", *MLP, "--bits", 3, "--grid", "worst.png")[0] == 0


@pytest.mark.parametrize("command", ["encode", "score", "reconstruct"])
def test_steps_need_a_refinement(command: str, cli: Cli, runs: Path) -> None:
    output = {"encode": ["-o", "c.safetensors"], "reconstruct": ["-o", "r.png"]}.get(command, [])
    words = [command, runs, "digits:0", *MLP, *output]
    status, out, err = cli(*words, "--steps", 2)
    assert (status, out) == (2, "")
    assert err.endswith("error: steps: must be 0 for a model without `refine`, got 2\n")
    assert not list(Path().glob("*.safetensors"))
    assert cli(*words, "--steps", 0)[0] == 0


def test_walk_draws_a_row_or_moves(cli: Cli, runs: Path) -> None:
    assert (
        cli("walk", runs, "digits:0", "digits:1", *MLP, "-o", "walk.png", "--steps", 5, "--scale", 1)[0] == 0
    )
    assert picture("walk.png").size == (5 * 10 + 2, 8 + 4)
    assert cli("walk", runs, "digits:0", "digits:1", *MLP, "-o", "walk.gif", "--steps", 5)[0] == 0
    with Image.open("walk.gif") as moving:
        assert getattr(moving, "n_frames") == 8  # noqa: B009 - five there, three back; only a GIF has them
        assert moving.size == (64, 64)


def test_reconstruct_takes_images_of_ones_own(cli: Cli, runs: Path) -> None:
    Image.new("L", (8, 8), 200).save("a.png")
    assert cli("reconstruct", runs, "a.png", "digits:0", *MLP, "-o", "r.png", "--scale", 1)[0] == 0
    drawn = picture("r.png")
    assert drawn.size == (2 * 10 + 2, 2 * 8 + 2 + 4)
    assert set(drawn.crop((2, 2, 10, 10)).tobytes()) == {200}


@slow
def test_export_writes_two_files(cli: Cli, runs: Path) -> None:
    import onnx

    status, out, _ = cli("export", runs, *MLP, "-o", "onnx")
    assert (status, out.splitlines()) == (0, ["onnx/encoder.onnx", "onnx/decoder.onnx"])
    metadata = {entry.key: json.loads(entry.value) for entry in onnx.load("onnx/encoder.onnx").metadata_props}
    assert metadata["name"] == "mine"
    assert folder_of(runs).name.endswith(metadata["recipe_hash"])


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["encode", "runs/mine", "digits", "-o", "c.safetensors"], "holds 2 runs; name one"),
        (["encode", "runs/none", "digits", "-o", "c.safetensors"], "holds no trained model"),
        (
            ["reconstruct", "runs/mine", *MLP, "--steps", "0,x", "-o", "x.png"],
            "steps: '0,x' must be whole numbers",
        ),
        (["reconstruct", "runs/mine", *MLP, "--steps", "1", "-o", "x.png"], "for a model without `refine`"),
        (["encode", "runs/mine", "digit", *MLP, "-o", "c.safetensors"], "did you mean 'digits'?"),
        (["encode", "runs/mine", "digits", *MLP, "-o", "c.pt"], "'c.pt' must end in .safetensors"),
        (["encode", "runs/mine", "wide.png", *MLP, "-o", "c.safetensors"], "is 8 x 9 pixels"),
        (["encode", "runs/mine", "digits", *MLP, "-o", "mine.yml/c.safetensors"], "cannot write"),
        (["encode", "runs/mine", "digits", *MLP, "--device", "cpx", "-o", "c.safetensors"], "'cpx' cannot"),
        (["decode", "runs/mine", "none.safetensors", *MLP, "-o", "out"], "there is no such file"),
        (["decode", "runs/mine", "mine.yml", *MLP, "-o", "out"], "is not a file of codes"),
        (["score", "runs/mine", "wide.png", *MLP], "--fit"),
        (["walk", "runs/mine", "digits:0", "digits", *MLP, "-o", "w.png"], "more than one image"),
        (["walk", "runs/mine", "digits:0", "digits:1", *MLP, "-o", "w.txt"], "does not end in a picture"),
        (["export", "runs/mine", *MLP, "-o", "mine.yml"], "cannot write"),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence(command: list[str], message: str, cli: Cli, runs: Path) -> None:
    Image.new("L", (9, 8)).save("wide.png")
    before = sorted(Path().rglob("*"))
    status, _, err = cli(*command)
    assert status in (1, 2)
    assert err.splitlines()[-1].startswith("error: ")
    assert message in err
    assert "Traceback" not in err
    assert sorted(Path().rglob("*")) == before


NORMED = """
import mixcoder
from torch import nn

@mixcoder.register_model("normed")
class Normed(mixcoder.Autoencoder):
    def __init__(self, image_shape: tuple[int, int, int], latent_dim: int):
        super().__init__()
        self.image_shape, self.latent_shape = image_shape, (latent_dim,)
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, latent_dim), nn.BatchNorm1d(latent_dim))
        self.decoder = nn.Linear(latent_dim, 64)

    def _encode(self, images):
        return self.encoder(images)

    def _decode(self, latents):
        return self.decoder(latents).reshape(-1, *self.image_shape)
"""


def test_a_plugin_with_a_norm_over_the_batch_is_trained_and_used(cli: Cli) -> None:
    """No single image can be looked at in training; and JSON has no tuples, as the model's shape is one."""
    Path("normed.py").write_text(NORMED)
    Path("x.yml").write_text(
        "name: x\ndata: {source: digits}\nmodel: {type: normed, latent_dim: 3}\ntraining: {inputs: 640}\n"
    )
    for command in (
        ["run", "x.yml"],
        ["score", "runs/x", "digits:0"],
        ["encode", "runs/x", "digits", "-o", "c.safetensors"],
    ):
        status, _, err = cli("--plugin", "normed.py", *command)
        assert status == 0, err


@pytest.mark.skipif(os.name != "posix", reason="needs names of files that are bytes")
def test_names_of_images_steer_no_terminal_and_no_spreadsheet(cli: Cli, runs: Path) -> None:
    """Escape sequences, formulas, markup, and a name that is not UTF-8, in every command that shows one."""
    names = [
        b"\x1b[31mred.png",
        b"=cmd.png",
        b"caf\xe9.png",
        b"[red]x.png",
        b"a\nb.png",
        "\u202egnp.png".encode(),
    ]
    content = io.BytesIO()
    Image.new("L", (8, 8), 99).save(content, "PNG")
    for name in names:
        Path(os.fsdecode(name)).write_bytes(content.getvalue())
    images = [os.fsdecode(name) for name in names]
    mlp = (folder_of(runs), *images)
    for form in ("text", "md", "csv", "json"):
        status, out, err = cli("score", *mlp, "--format", form)
        assert status == 0
        assert all(line.isprintable() for line in (out + err).split("\n"))
    rows = list(csv.reader(io.StringIO(cli("score", *mlp)[1])))
    shown = {r"\x1b[31mred.png", "'=cmd.png", r"caf\udce9.png", "[red]x.png", "a\nb.png", r"\u202egnp.png"}
    assert {row[0] for row in rows[1:]} == shown

    assert cli("encode", *mlp, "-o", "c.safetensors")[0] == 0
    assert Codes.open("c.safetensors").names == images
    status, out, _ = cli("decode", folder_of(runs), "c.safetensors", "-o", os.fsdecode(b"o\xff\x1b[2J"))
    assert (status, out) == (0, "o\\udcff\\x1b[2J: 6 images\n")
    assert all(path.name.isprintable() for path in Path(os.fsdecode(b"o\xff\x1b[2J")).iterdir())
    status, _, err = cli("score", folder_of(runs), os.fsdecode(b"\x1b]0;owned\x07\xff.png"))
    assert (status, "\\x1b]0;owned\\x07\\udcff.png" in err, "\x1b" in err) == (2, True, False)
