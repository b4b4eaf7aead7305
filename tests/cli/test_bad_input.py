"""Bad input of every kind: one clear sentence, exit status 2, and nothing left behind."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest
import stamina

from tests.conftest import Cli
from tests.data.servers import serving

MIXER = """\
name: mine
data: {source: mnist}
model:
  type: mixer
  patch_size: 7
  hidden_channels: [64, 64, 16]
  latent_dim: 16
  mixer_at: [2, 3]
  mixer: cnn
training:
  learning_rate: 0.003
  inputs: 1000
"""
CNN = """\
name: mine
data: {source: digits}
model: {type: cnn, channels: [4, 8], kernel_size: 3, latent_dim: 4}
training: {steps: 1}
"""
SCRIPT = """\
name: mine
data: {source: mnist}
model: {type: script, script: "ch=8|down2|ch=1"}
training: {steps: 1}
"""


def changed(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new)


FILES = {
    "unknown mixer": (changed(MIXER, "mixer: cnn", "mixer: cnnx"), ":9: model.mixer: unknown mixing layer 'cnnx'; did you mean 'cnn'?"),
    "even kernel": (MIXER.replace("mixer: cnn", "kernel_size: 4"), ":9: model.kernel_size: must be odd so that padding keeps the size, got 4; 3 or 5 would fit"),
    "mixer beyond the last layer": (changed(MIXER, "[2, 3]", "[2, 4]"), ":8: model.mixer_at: position 4 is beyond the 3 entries"),
    "patch that does not divide": (changed(MIXER, "patch_size: 7", "patch_size: 5"), ":5: model.patch_size: patches of 5 x 5 pixels do not tile an image of 28 x 28; these sizes do: 1, 2, 4, 7"),
    "breadth that is no square": (changed(changed(MIXER, "mixer: cnn", "mixer: cnn2d"), "64, 64, 16]", "64, 60, 16]"), ":6: model.hidden_channels: mixer 'cnn2d' sees each patch as a square picture and 60"),
    "negative channels": (changed(MIXER, "64, 64, 16]", "64, -64, 16]"), ":6: model.hidden_channels: must be a whole number from 1 to 1,000,000, got -64"),
    "channels in words": (changed(MIXER, "[64, 64, 16]", "[64, many, 16]"), ":6: model.hidden_channels.1: must be a whole number, not the text 'many'"),
    "one number for a list": (changed(MIXER, "[64, 64, 16]", "64"), ":6: model.hidden_channels: must be a list, not 64"),
    "latent of no size": (changed(MIXER, "latent_dim: 16", "latent_dim: 0"), ":7: model.latent_dim: must be a whole number from 1 to 1,000,000, got 0"),
    "number in quotes": (changed(MIXER, "patch_size: 7", "patch_size: '7'"), ":5: model.patch_size: must be a whole number, not the text '7'"),
    "unknown activation": (changed(MIXER, "mixer: cnn", "activation: relu7"), ":9: model.activation: unknown activation 'relu7'; did you mean 'relu"),
    "unknown model": (changed(MIXER, "type: mixer", "type: mixxer"), ":4: model.type: unknown model 'mixxer'; did you mean 'mixer'?"),
    "argument missing": (changed(MIXER, "  latent_dim: 16\n", ""), ":3: model.latent_dim: is missing"),
    "image shape stated": (changed(MIXER, "mixer: cnn", "image_shape: [1, 28, 28]"), ":9: model.image_shape: comes from the data; remove it here"),
    "unknown source": (changed(MIXER, "mnist", "mnits"), ":2: data.source: unknown data source 'mnits'; did you mean 'mnist'?"),
    "argument of the source": (changed(MIXER, "source: mnist", "source: mnist, size: 28"), ":2: data.size: unknown key 'size'"),
    "negative learning rate": (changed(MIXER, "0.003", "-0.003"), ":11: training.learning_rate: must be above 0, not -0.003"),
    "infinite learning rate": (changed(MIXER, "0.003", ".inf"), ":11: training.learning_rate: must be a finite number, not inf"),
    "unknown optimizer": (changed(MIXER, "inputs: 1000", "optimizer: adamww\n  inputs: 1000"), ":12: training.optimizer: unknown optimizer 'adamww'; did you mean 'adamw'?"),
    "two durations": (changed(MIXER, "inputs: 1000", "inputs: 1000\n  epochs: 1"), ":10: training: needs exactly one of inputs, steps and epochs, found inputs and epochs"),
    "no duration": (changed(MIXER, "  inputs: 1000\n", ""), ":10: training: needs exactly one of inputs, steps and epochs, found none"),
    "all warm-up": (changed(CNN, "steps: 1", "steps: 5, warmup_steps: 5"), "training.warmup_steps: 5 steps of warm-up leave nothing of a run of 5"),
    "unknown key": (changed(MIXER, "learning_rate", "lerning_rate"), ":11: training.lerning_rate: unknown key 'lerning_rate'; did you mean 'learning_rate'?"),
    "a model beyond the machine": (changed(changed(changed(MIXER, "mnist", "digits"), "patch_size: 7", "patch_size: 4"), "[64, 64, 16]", "[1000000, 1000000, 16]"), " parameters with batches of 64 images takes 40,001.4 GB of memory and there are "),
    "a model beyond all numbers": (changed(changed(MIXER, "mixer: cnn", "mixer: cnn2df\n  kernel_size: 1000001"), "64, 16]", "1000000, 16]"), ":3: model: model 'mixer' cannot be built with these numbers ("),
    "a batch beyond reason": (changed(MIXER, "inputs: 1000", "batch_size: 10000000000\n  inputs: 1000"), ":12: training.batch_size: must be at most 1,000,000, not 10000000000"),
    "section missing": (changed(MIXER, "data: {source: mnist}\n", ""), ":1: data: is missing"),
    "list where a map belongs": (changed(MIXER, "{source: mnist}", "[mnist]"), ":2: data: must be a map of keys and values, not the list ['mnist']"),
    "list as the file": ("- name: mine\n", ":1: must be a map of keys and values"),
    "duplicate key": (changed(MIXER, "  mixer: cnn\n", "  mixer: cnn\n  patch_size: 4\n"), ":10: model.patch_size: stands here a second time; keep one of the two"),
    "no YAML": (changed(MIXER, "[64, 64, 16]", "[64, 64, 16"), ":7: is not valid YAML"),
    "a tag that would run code": (changed(MIXER, "name: mine", "name: !!python/object/apply:os.system [id]"), ":1: name: the tag '!python/object/apply:os.system' is not allowed"),
    "name with a path": (changed(MIXER, "name: mine", "name: ../mine"), ":1: name: must be made of letters, digits, '.', '_' and '-', not the text '../mine'"),
    "kernel that eats the image": (changed(CNN, "kernel_size: 3", "kernel_size: 5"), ":3: model.kernel_size: 2 unpadded convolutions of kernel 5 take 8 pixels off an image of 8 x 8"),
    "script ch/0": (changed(SCRIPT, "ch=8", "ch/0"), ":3: model.script: expected a number from 1 to 65536, found 0\n  ch/0|down2|ch=1\n     ^"),
    "script down3 on 28 pixels": (changed(SCRIPT, "down2", "down3"), ":3: model.script: a picture of 28 x 28 cannot be scaled down by 3; factors that fit: 2, 4, 7, 14, 28\n"),
    "script whose activation is never used": (changed(SCRIPT, "ch=8|down2|ch=1\"", "ch=8\", activation: relu7"), ":3: model.activation: unknown activation 'relu7'; did you mean 'relu"),
    "script with a strange word": (changed(SCRIPT, "down2", "up2"), ":3: model.script: expected 'ch', 'down' or 'scl', found 'up'\n  ch=8|up2|ch=1\n       ^"),
}  # fmt: skip


def assert_refused(answer: tuple[int, str, str], sentence: str) -> None:
    status, out, err = answer
    assert sentence in err
    assert err.startswith("error: ")
    assert err.count("error:") == 1
    assert "Traceback" not in err
    assert len([line for line in err.splitlines() if not line.startswith("  ")]) == 1
    assert out == ""
    assert status == 2


@pytest.mark.parametrize("kind", FILES)
def test_experiment_files(kind: str, cli: Cli, tmp_path: Path) -> None:
    text, sentence = FILES[kind]
    Path("x.yml").write_text(text)
    assert_refused(cli("run", "x.yml"), f"x.yml{sentence}" if sentence.startswith(":") else sentence)
    assert [path.name for path in tmp_path.rglob("*")] == ["x.yml"]


COMMANDS = {
    "no such file": (["run", "nowhere.yml"], "nowhere.yml: no such file or directory"),
    "a folder": (["run", "."], ".: is a folder; name an experiment file"),
    "override without value": (["run", "x.yml", "training.inputs"], "must be key=value, such as training.inputs=50_000"),
    "override that is no YAML": (["run", "x.yml", "model.channels=[4"], "is not valid YAML"),
    "override of nothing": (["run", "x.yml", "trainning.inputs=3"], "trainning: unknown key 'trainning'; did you mean 'training'?"),
    "unknown device": (["run", "x.yml", "--device", "gpu7"], "device: 'gpu7' cannot be used here"),
    "device that computes nothing": (["run", "x.yml", "--device", "meta"], "device: 'meta' cannot be used here"),
    "no run": (["reconstruct", ".", "-o", "grid.png"], ".: holds no trained model; name the folder of a finished run"),
    "unknown model to show": (["models", "show", "mixxer"], "type: unknown model 'mixxer'; did you mean 'mixer'?"),
    "unknown argument to show": (["models", "show", "cnn", "kernel=3"], "kernel: unknown key 'kernel'; did you mean 'kernel_size'?"),
    "unknown source to fetch": (["data", "fetch", "mnits"], "source: unknown data source 'mnits'; did you mean 'mnist'?"),
    "nothing to fetch": (["data", "fetch", "digits", "--from", "x"], "from: this data source is not fetched from anywhere"),
    "nothing to verify at all": (["data", "verify", "digits"], "source: has no files to verify"),
    "checksum of what has four": (["data", "fetch", "mnist", "--sha256", "ab"], "sha256: the checksums of mnist are known"),
    "no folder to pack": (["data", "fetch", "folder", "path=photos"], "photos: there is no such folder"),
    "folder not named": (["data", "fetch", "folder"], "path: is missing: name a folder of images"),
    "one side of two": (["data", "fetch", "folder", "train=."], "validation: is missing: train and validation go together"),
    "all places at once": (["data", "fetch", "folder", "path=.", "train=."], "path: stands alone"),
    "crop of nothing": (["data", "fetch", "folder", "path=.", "crop_size=0"], "crop_size: must be from 1 to 4096, not 0"),
    "two channels": (["data", "fetch", "folder", "path=.", "channels=2"], "channels: must be 1 for grey or 3 for RGB"),
    "all validate": (["data", "fetch", "folder", "path=.", "validation_share=1"], "validation_share: must lie between 0 and 1, not 1"),
    "folder without images": (["data", "fetch", "folder", "path=."], ".: holds no images (1 file ends in .yml, which is not read here)"),
    "archive that is not there": (["data", "fetch", "unsplash", "--from", "lite.zip"], "lite.zip: there is no such file"),
    "archive that is none": (["data", "fetch", "unsplash", "--from", "x.yml"], "x.yml: is not a whole zip archive of photos"),
    "nothing to verify": (["data", "verify", "mnist"], "mnist is not on this machine; mixcoder data fetch mnist brings it"),
    "plugin that is not there": (["--plugin", "mine.py", "models", "ls"], "--plugin mine.py: there is no such file"),
    "module that is not there": (["--plugin", "mine_too", "models", "ls"], "--plugin mine_too: no module named 'mine_too'"),
}  # fmt: skip


@pytest.mark.usefixtures("empty_cache")
@pytest.mark.parametrize("kind", COMMANDS)
def test_commands(kind: str, cli: Cli, tmp_path: Path) -> None:
    arguments, sentence = COMMANDS[kind]
    Path("x.yml").write_text(CNN)
    assert_refused(cli(*arguments), sentence)
    assert [path.name for path in tmp_path.rglob("*")] == ["x.yml"]


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("exit(0)", "SystemExit: 0"),
        ("def (", "SyntaxError"),
    ],
)
def test_a_plugin_that_fails(program: str, sentence: str, cli: Cli) -> None:
    Path("mine.py").write_text(program)
    assert_refused(cli("--plugin", "mine.py", "models", "ls"), f"--plugin mine.py: {sentence}")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (struct.pack(">HBB3I", 0, 8, 3, 60_000, 28, 28) + bytes(1000), "is truncated, it ends 47,039,000 bytes early"),
        (struct.pack(">HBB3I", 0, 8, 3, 60_000, 32, 32), "holds an array of 60000 x 32 x 32, expected 60000 x 28 x 28"),
        (b"<html>Not found</html>", "is not an IDX file"),
    ],
)  # fmt: skip
def test_damaged_data(content: bytes, sentence: str, cli: Cli, empty_cache: Path) -> None:
    folder = empty_cache / "mnist"
    folder.mkdir(parents=True)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (folder / f"{name}-ubyte.gz").write_bytes(gzip.compress(content))
    Path("x.yml").write_text(MIXER)
    assert_refused(cli("run", "x.yml"), sentence)
    assert not Path("runs").exists()


def files_in(folder: Path) -> list[Path]:
    """All but locks, which stay: another process may wait for one."""
    return [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_wrong_checksum(cli: Cli, empty_cache: Path) -> None:
    with serving({"/train-images-idx3-ubyte.gz": gzip.compress(b"not MNIST")}) as server:
        status, out, err = cli("data", "fetch", "mnist", "--from", server.address)
    assert "its MD5 is" in err
    assert err.splitlines()[-1].startswith(
        "error: mnist is not on this machine and cannot be fetched; put train-"
    )
    assert (status, out) == (2, "")
    assert not files_in(empty_cache)


def test_offline(cli: Cli, empty_cache: Path) -> None:
    Path("x.yml").write_text(MIXER)
    with stamina.set_testing(True):
        status, out, err = cli("run", "x.yml")
    assert (status, out) == (2, "")
    progress, error = err.splitlines()
    assert progress == "fetching train-images-idx3-ubyte.gz"
    assert f"t10k-labels-idx1-ubyte.gz into {empty_cache / 'mnist'} (could not fetch" in error
    assert not files_in(empty_cache)


def test_a_run_that_diverges_is_a_failed_run(cli: Cli) -> None:
    Path("x.yml").write_text(CNN)
    status, out, err = cli(
        "run", "x.yml", "training.steps=300", "training.optimizer=sgd", "training.learning_rate=1e9"
    )
    assert status == 1
    assert "with learning rate" in err
    assert "try a smaller learning_rate" in err
    assert out == ""
    assert not list(Path().rglob("result.json"))


@pytest.mark.parametrize(
    "arguments", [["run"], ["nonsense"], ["run", "x.yml", "--nonsense"], ["reconstruct", "x"]]
)
def test_wrong_usage(arguments: list[str], cli: Cli) -> None:
    status, out, err = cli(*arguments)
    assert status == 2
    assert "Usage: mixcoder" in err
    assert out == ""


def test_out_of_memory_on_the_way_is_a_failed_run(cli: Cli) -> None:
    """A layer that asks for what no machine has, as a batch too large for the GPU would."""
    Path("mine.py").write_text(
        "import mixcoder, torch\n"
        "@mixcoder.register_mixer('huge')\n"
        "class Huge(mixcoder.MixingLayer):\n"
        "    'Huge.'\n"
        "    def __init__(self, grid, channels, kernel_size):\n"
        "        super().__init__()\n"
        "    def mix(self, x):\n"
        "        return x if x.is_meta else x + torch.zeros(2**55)[:1]\n"
    )
    Path("x.yml").write_text(
        "name: mine\ndata: {source: digits}\ntraining: {steps: 1}\n"
        "model: {type: mixer, patch_size: 4, hidden_channels: [4], latent_dim: 2, mixer_at: [1], mixer: huge}\n"
    )
    status, out, err = cli("--plugin", "mine.py", "run", "x.yml")
    assert (status, out) == (1, "")
    assert err.endswith(
        "error: out of memory while training a mixer of 230 parameters with batches of 64 images; try a "
        "training.batch_size of 32 or a smaller model.hidden_channels or model.latent_dim "
        "(64 parameters are in encoder.0.module.weight)\n"
    )
