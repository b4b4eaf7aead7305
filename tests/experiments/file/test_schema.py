"""The JSON Schema, held against the program by an independent validator: no false alarms, and real ones."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Annotated, Any

import pytest
from jsonschema import Draft7Validator
from pydantic import BaseModel, Field
from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.nodes import ScalarNode

from mixcoder.errors import MixcoderError
from mixcoder.experiments.file.schema import experiment_schema
from mixcoder.experiments.file.shipped import shipped_folder, shipped_names
from mixcoder.experiments.file.spec import read_experiment
from mixcoder.models import MIXERS, Autoencoder, register_model
from mixcoder.registry.known_keys import Schema
from tests.cli.test_train import PLUGIN
from tests.conftest import Cli
from tests.experiments.searches.inline import SEARCH
from tests.faults.broken_experiments import EXTENDING, MATRIX, SCRIPT, SINGLE, STACK

ROOT = Path(__file__).parents[3]
SHIPPED = [shipped_folder() / f"{name}.yml" for name in shipped_names()]
SCHEMA = experiment_schema()
MODELINE = re.compile(r"^# yaml-language-server: \$schema=(\S+)$", re.M)


class _Editor(SafeConstructor):
    """Values as the YAML language server reads them: for it, a number with underscores is a text."""

    def number(self, node: ScalarNode) -> Any:
        if "_" in node.value:
            return node.value
        return getattr(self, f"construct_yaml_{str(node.tag).rpartition(':')[2]}")(node)


_Editor.add_constructor("tag:yaml.org,2002:int", _Editor.number)
_Editor.add_constructor("tag:yaml.org,2002:float", _Editor.number)


def as_editors_read(text: str) -> Any:
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = _Editor
    return yaml.load(text)


def as_we_read(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def alarms(value: Any, schema: Schema = SCHEMA) -> list[str]:
    """What the schema finds wrong with a file's content."""
    return [error.message for error in Draft7Validator(schema).iter_errors(value)]


def assert_quiet(text: str) -> None:
    assert alarms(as_editors_read(text)) == []
    assert alarms(as_we_read(text)) == []


def refused(text: str) -> bool:
    """Whether the program refuses a file. Beside it lies `base.yml`, to extend."""
    Path("base.yml").write_text(SINGLE)
    Path("x.yml").write_text(text)
    try:
        read_experiment(Path("x.yml"))
    except MixcoderError:
        return True
    return False


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# ── no false alarms ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_files(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert_quiet(text)
    [schema] = MODELINE.findall(text)
    assert json.loads((path.parent / schema).read_text()) == SCHEMA


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_run_of_the_shipped_files_as_it_is_written_down(path: Path) -> None:
    for run in read_experiment(path).runs[:3]:
        assert alarms(run.resolved()) == []


def test_the_documents_experiments() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *ROOT.glob("docs/*.md"))]
    blocks = [block for text in texts for block in re.findall(r"^```yaml\n(.*?)^```$", text, re.S | re.M)]
    experiments = [block for block in blocks if block.startswith("name: ")]
    assert len(experiments) >= 4
    for experiment in experiments:
        assert_quiet(experiment)


SPELLED = {
    "a map of the matrix": ("{source: mnist}", "${d}"),
    "a name of the matrix": ("{source: mnist}", '{source: "${s}"}'),
    "keys of a model that the matrix names": ("type: mixer", "type: ${t}"),
    "a number within a list": ("[64, 36, 16]", '[64, "${n}", 1_6]'),
    "a text around a reference": ("mixer: cnn2d", "mixer: cnn${two}d"),
    "a name with a reference": ("name: mine", "name: mine-${n}"),
    "spaces in a reference": ("patch_size: 7", "patch_size: ${ size.patch }"),
    "underscores": ("0.003", "0.000_3"),
    "a power of ten": ("0.003", "3e-3"),
    "a whole number for any": ("0.003", "1"),
    "nothing": ("inputs: 1_000", "inputs: 1_000\n  weight_decay: null\n  epochs: ~"),
    "either duration, by the matrix": ("inputs: 1_000", "inputs: ${d.inputs}\n  steps: ${d.steps}"),
}


@pytest.mark.parametrize("kind", SPELLED)
def test_other_ways_to_write_a_value(kind: str) -> None:
    old, new = SPELLED[kind]
    assert old in SINGLE
    assert_quiet(SINGLE.replace(old, new))


EXTENDED_SEARCH = "extends: base.yml\nsearch: {trials: 9, values: {rate: {high: 0.2}}}\n"


@pytest.mark.parametrize(
    "text", [SINGLE, MATRIX, SCRIPT, EXTENDING, "extends: base.yml\n", SEARCH, EXTENDED_SEARCH]
)
def test_sound_files(text: str) -> None:
    assert_quiet(text)


SPELLED_IN_PARTS = {
    "as it is": ("", ""),
    "a number within a part": ("groups: 2", 'groups: "${g}"'),
    "a name within a part": ("name: grouped", 'name: "${g}"'),
    "a part": ("{name: grouped, groups: 2}", "${g}"),
    "a name alone": ("{name: grouped, groups: 2}", "cnn"),
    "a map of a name alone": ("{name: grouped, groups: 2}", "{name: cnn}"),
    "half a name": ("{name: grouped, groups: 2}", "cnn${g}"),
    "how often": ("repeat: 2", "repeat: ${g}"),
    "a layer": ("- film", "- ${g}"),
    "half a layer": ("- film", '- "fi${g}"'),
    "a list": ("[{channels: 6}]", "${g}"),
    "channels": ("[{channels: 6}]", '[{channels: "${g}"}]'),
    "an activation of a layer": ("[{channels: 6}]", '[{channels: 6, activation: "${g}"}]'),
    "a number with underscores": ("[{channels: 6}]", "[{channels: 1_0}]"),
    "a number of the output": ("scale: 8", 'scale: "${g}"'),
    "the output": ("{name: sigmoid, scale: 8}", "${g}"),
    "the refinement": ("{steps: 2}", "${g}"),
    "no refinement": ("{steps: 2}", "null"),
    "steps": ("{steps: 2}", '{steps: "${g}", trust_radius: 0.5}'),
    "no list": ("  latent_dim: 4\n", "  latent_dim: null\n"),
}


@pytest.mark.parametrize("kind", SPELLED_IN_PARTS)
def test_other_ways_to_write_parts_and_layers(kind: str) -> None:
    old, new = SPELLED_IN_PARTS[kind]
    assert old in STACK
    assert_quiet(STACK.replace(old, new) if old else STACK)


NUMBERS = ["1", "2", "${two}", "0x2", "0o4", "+2", "1_0", "0", "-1", "2.0", "'2'", "~", "${text}", "1${two}"]
LISTS = ["[4]", "[4, 4]", "[9, 4]", '[4, "${two}"]', "${list}", "[1_6, 4]", "[]", "4", "[four]", "${two}"]
NAMES = ["none", "gelu", "${name}", "no${ne}", "null", "''", "3", "[gelu]", "geluu"]
VALUES = {
    "mixer": {
        "patch_size": NUMBERS,
        "hidden_channels": LISTS,
        "latent_dim": NUMBERS,
        "mixer_at": ["[]", "[1]", '["${one}"]', "${ones}", "[9]", "1", "null", "['1']"],
        "mixer": ["cnn", "mlp", "${mixer}", "c${nn}", "cnm", "null", "''"],
        "kernel_size": ["1", "3", "1_1", "${one}", "2", "true", "x"],
        "activation": NAMES,
        "encoder_mixer_activation": NAMES,
        "norm": ["none", "layer", "rms", "${name}", "batch", "null"],
    },
    "cnn": {
        "channels": LISTS,
        "kernel_size": ["1", "3", "2", "${one}", "99", "1.5", "~"],
        "latent_dim": NUMBERS,
        "activation": NAMES,
    },
    "script": {
        "script": ["ch=1", "ch=4|down2|ch=1", "'ch=${two}'", "${script}", "ch", "3", "null"],
        "kernel_size": ["1", "3", "${one}", "2", "-1"],
        "activation": NAMES,
    },
    "training": {
        "batch_size": NUMBERS,
        "learning_rate": ["1", "0.1", "1e-3", "1_0.5", ".5", "${two}", "1_000", "1e31", "0", ".inf", "'1'"],
        "optimizer": ["sgd", "muon", "${optimizer}", "admw", "null"],
        "weight_decay": ["0", "~", "0.1", "1_0", "${nothing}", "-1", "no"],
        "warmup_steps": ["0", "1", "${one}", "-1"],
        "loss": ["l1", "huber", "${name}"],
        "inputs": ["1_000", "64", "${two}", "null", "${nothing}", "0"],
        "steps": ["null", "${nothing}", "2", "${two}", "1e1"],
        "epochs": ["null", "${nothing}", "1", "${one}", "-1"],
        "seed": ["0", "9223372036854775807", "${two}", "9223372036854775808"],
        "compile": ["on", "off", "auto", "true"],
    },
}
"""What may stand there, what is right first."""
AXES = {
    "one": "1", "two": "2", "text": "'2'", "list": "[9, 4]", "ones": "[1]", "name": "none", "mixer": "mlp",
    "nn": "nn", "script": "ch=2", "optimizer": "sgd", "nothing": "null", "ne": "ne",
}  # fmt: skip


def plausible_file(dice: Random) -> str:
    """A file of known keys, most with a value that is right; some extend another, some lack a line."""

    def lines(kind: str, *needed: str) -> Iterator[str]:
        for key, values in VALUES[kind].items():
            if key in needed or not dice.randrange(4):
                likely = values[: len(values) // 2] if dice.randrange(12) else values
                yield f"  {key}: {dice.choice(likely)}\n"

    if dice.randrange(4):
        model = dice.choice(["mixer", "cnn", "script"])
        needed = SCHEMA["definitions"][f"model.{model}.required"]["required"]
        text = ["name: mine\n", "data: {source: digits}\n", "model:\n", f"  type: {model}\n"]
        text += [*lines(model, *needed), "training:\n", *lines("training", "inputs")]
    else:
        text = ["extends: base.yml\n", "model:\n", *lines("mixer", "mixer")]
        text += ["training:\n", *lines("training", "seed")]
    if not dice.randrange(4):
        del text[dice.randrange(len(text))]
    axes = [axis for axis in AXES if f"${{{axis}}}" in "".join(text)]
    matrix = [f"  {axis}: [{AXES[axis]}]\n" for axis in axes]
    return "".join([*text, "matrix:\n" * bool(matrix), *matrix])


def test_what_the_program_takes() -> None:
    """Files put together from all keys; what the program takes raises no alarm."""
    files = {plausible_file(Random(seed)) for seed in range(300)}
    sound = {text for text in files if not refused(text)}
    for text in sound:
        assert_quiet(text)
    assert len(sound) >= 100
    assert sum("${" in text for text in sound) >= 50
    assert sum("extends" in text for text in sound) >= 20


# ── real alarms ──────────────────────────────────────────────────────────────────────────────────────

WRONG = {
    "unknown section": ("training:", "trainning:"),
    "unknown key of the model": ("kernel_size", "kernel_sise"),
    "unknown key of the data": ("{source: mnist}", "{source: mnist, size: 28}"),
    "unknown key of the training": ("learning_rate", "lr"),
    "a key of another model": ("kernel_size: 3", "script: ch=1"),
    "what comes from the data": ("kernel_size: 3", "image_shape: [1, 28, 28]"),
    "unknown mixing layer": ("cnn2d", "cnn3d"),
    "unknown model": ("type: mixer", "type: mixxer"),
    "unknown source": ("mnist", "mnits"),
    "unknown activation": ("kernel_size: 3", "activation: gelo"),
    "unknown activation of the encoder": ("kernel_size: 3", "encoder_mixer_activation: ''"),
    "unknown norm": ("kernel_size: 3", "norm: batch"),
    "unknown optimizer": ("inputs: 1_000", "inputs: 1_000\n  optimizer: admw"),
    "unknown loss": ("inputs: 1_000", "inputs: 1_000\n  loss: mean"),
    "a text for a number": ("patch_size: 7", "patch_size: seven"),
    "a number in quotes": ("patch_size: 7", "patch_size: '7'"),
    "a reference within a number": ("patch_size: 7", "patch_size: 7${seven}"),
    "a broken number": ("patch_size: 7", "patch_size: 7.5"),
    "a truth for a number": ("patch_size: 7", "patch_size: true"),
    "nothing for a number": ("patch_size: 7", "patch_size:"),
    "a number for a list": ("[64, 36, 16]", "64"),
    "a text in a list": ("[64, 36, 16]", "[64, many]"),
    "a number for a name": ("cnn2d", "2"),
    "a list for a map": ("{source: mnist}", "[mnist]"),
    "a text for a map": ("{source: mnist}", "mnist"),
    "below the bound": ("0.003", "0"),
    "above the bound": ("inputs: 1_000", "batch_size: 1000001\n  inputs: 1_000"),
    "a name with a path": ("name: mine", "name: ../mine"),
    "a name too long": ("name: mine", f"name: {'x' * 101}"),
    "no name": ("name: mine\n", ""),
    "no data": ("data: {source: mnist}\n", ""),
    "no source": ("{source: mnist}", "{}"),
    "no type": ("  type: mixer\n", ""),
    "no argument": ("  latent_dim: 16\n", ""),
    "no duration": ("  inputs: 1_000\n", ""),
    "an empty duration": ("1_000", "null"),
    "two durations": ("inputs: 1_000", "inputs: 1_000\n  epochs: 1"),
    "an empty matrix": ("training:", "matrix: {}\ntraining:"),
    "an axis of one value": ("kernel_size: 3", "kernel_size: ${ks}\nmatrix: {ks: 3}"),
    "an axis of no value": ("kernel_size: 3", "kernel_size: ${ks}\nmatrix: {ks: []}"),
    "an axis that tables use": ("kernel_size: 3", "kernel_size: ${run}\nmatrix: {run: [3]}"),
    "an axis with a space": ("kernel_size: 3", "kernel_size: ${k s}\nmatrix: {k s: [3]}"),
    "an exclude that is no list": ("kernel_size: 3", "kernel_size: ${k}\nmatrix: {k: [3], exclude: {k: 3}}"),
    "nothing to exclude": ("kernel_size: 3", "kernel_size: ${k}\nmatrix: {k: [3], exclude: [{}]}"),
    "extends no file": ("name: mine", "extends: 3\nname: mine"),
    "no map": (SINGLE, "- name: mine\n"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_refused_by_both(kind: str) -> None:
    old, new = WRONG[kind]
    text = SINGLE.replace(old, new)
    assert text != SINGLE
    assert refused(text)
    assert alarms(as_editors_read(text))


WRONG_SEARCH = {
    "unknown key": ("keep: 0.34", "keap: 0.34"),
    "no trials": ("  trials: 6\n", ""),
    "no rungs": ("  inputs: [640, 1_280]\n", ""),
    "no values": ("values:\n", "values: {}\n  ignored:\n"),
    "all of them": ("keep: 0.34", "keep: 1"),
    "no finalists": ("finalists: 2", "finalists: 0"),
    "a rung in words": ("[640, 1_280]", "[few]"),
    "an unknown limit": ("keep: 0.34", "limits: {parms: 3}"),
    "a limit of nothing": ("keep: 0.34", "limits: {params: 0}"),
    "an unknown part of a range": ("log: true", "lag: true"),
    "a range without an end": (", high: 0.3", ""),
    "a value that is no list": ("[cnn, mlp]", "cnn"),
    "a choice of nothing": ("[cnn, mlp]", "[]"),
    "a word that tables use": ("rate:", "trial:"),
}


@pytest.mark.parametrize("kind", WRONG_SEARCH)
def test_a_wrong_search_is_refused_by_both(kind: str) -> None:
    sound, wrong = WRONG_SEARCH[kind]
    text = SEARCH.replace(sound, wrong)
    assert text != SEARCH
    assert refused(text)
    assert alarms(as_editors_read(text))


WRONG_IN_PARTS = {
    "an argument of another part": ("groups: 2", "hidden: 2"),
    "an unknown argument": ("groups: 2", "group: 2"),
    "an argument of a part that has none": ("name: grouped", "name: cnn"),
    "no name": ("name: grouped, ", ""),
    "an unknown name": ("name: grouped", "name: groupd"),
    "what comes from the model": ("groups: 2", "kernel_size: 3"),
    "an unknown layer": ("- film", "- flim"),
    "an unknown key of a layer": ("[{channels: 6}]", "[{channels: 6, bais: none}]"),
    "no kind of layer": ("[{channels: 6}]", "[{bias: none}]"),
    "two kinds of layer": ("[{channels: 6}]", "[{channels: 6, mixer: cnn}]"),
    "a layer of no list": ("[{channels: 6}]", "{channels: 6}"),
    "no layers": ("[{channels: 6}]", "[{repeat: 2, layers: []}]"),
    "too often": ("repeat: 2", "repeat: 257"),
    "a layer within": ("- film", "- {chanels: 2}"),
    "an argument of an output that has none": ("name: sigmoid", "name: tanh"),
    "an argument of torch": ("{name: sigmoid, scale: 8}", "{name: relu, inplace: true}"),
    "no steps": ("{steps: 2}", "{}"),
    "an unknown key of the refinement": ("{steps: 2}", "{steps: 2, matrx: full}"),
    "an unknown matrix": ("{steps: 2}", "{steps: 2, matrix: half}"),
    "steps of another type": ("{steps: 2}", "2"),
}


@pytest.mark.parametrize("kind", WRONG_IN_PARTS)
def test_what_is_wrong_in_parts_and_layers_is_refused_by_both(kind: str) -> None:
    old, new = WRONG_IN_PARTS[kind]
    text = STACK.replace(old, new)
    assert text != STACK
    assert refused(text)
    assert alarms(as_editors_read(text))


def test_a_file_that_extends_may_leave_out_all_but_what_is_wrong() -> None:
    for wrong in ("modell: {}", "model: {kernel_sise: 3}", "model: {kernel_size: x}", "training: {seed: -1}"):
        assert alarms(as_editors_read(f"extends: base.yml\n{wrong}\n"))


# ── what it says ─────────────────────────────────────────────────────────────────────────────────────


def test_every_key_has_a_description() -> None:
    maps = [SCHEMA, *(SCHEMA["properties"][key] for key in ("data", "model", "training", "matrix", "search"))]
    maps += [it["allOf"][-1]["then"] for it in maps if "allOf" in it]
    maps += [it for name, it in SCHEMA["definitions"].items() if "properties" in it]
    keys = [(key, it) for each in maps for key, it in each["properties"].items()]
    assert len(keys) > 80
    bare = {key for key, it in keys if not it.get("description", "").strip()}
    assert bare == {"source", "type"}, "and these two are described where they choose"
    assert all(
        SCHEMA["properties"][a]["properties"][b]["description"]
        for a, b in (("data", "source"), ("model", "type"))
    )


def test_types_defaults_bounds_and_names() -> None:
    training, mixer = (
        SCHEMA["properties"]["training"]["properties"],
        SCHEMA["definitions"]["model.mixer"]["properties"],
    )
    assert training["batch_size"]["default"] == 64
    assert training["batch_size"]["anyOf"][0] == {
        "exclusiveMinimum": 0,
        "maximum": 1_000_000,
        "type": "integer",
    }
    assert training["optimizer"]["anyOf"][0]["enum"] == ["adamw", "adam", "sgd", "muon"]
    assert mixer["mixer"]["anyOf"][0]["enum"] == list(MIXERS)
    assert mixer["mixer_at"]["default"] == []
    assert "gelu" in mixer["encoder_mixer_activation"]["anyOf"][0]["enum"]
    assert SCHEMA["definitions"]["data.hub.required"] == {"required": ["name"]}


def test_a_mixing_layer_of_a_plugin(cli: Cli) -> None:
    Path("mine.py").write_text(PLUGIN)
    text = SINGLE.replace("cnn2d", "shift")
    status, out, _ = cli("--plugin", "mine.py", "schema", "-o", "mine/experiment.schema.json")
    assert (status, out) == (0, "mine/experiment.schema.json\n")
    schema = json.loads(Path(out.strip()).read_text())
    assert alarms(as_editors_read(text), schema) == []
    assert alarms(as_editors_read(text.replace("shift", "shifft")), schema)


class Part(BaseModel):
    size: int
    parts: list[Part] = []


def test_a_strange_model_of_a_plugin() -> None:
    """A name that a pointer must escape, bounds, nested values, and a type that JSON cannot state."""

    @register_model("own/~1 {x}%20")
    class Own(Autoencoder):
        def __init__(
            self,
            image_shape: Sequence[int],
            title: str,
            part: Part,
            share: Annotated[float, Field(gt=0, lt=1)] = 0.5,
            sizes: Mapping[str, int] | None = None,
            function: Callable[[int], int] = abs,
        ) -> None: ...

    schema = experiment_schema()
    Draft7Validator.check_schema(schema)
    model = {"type": "own/~1 {x}%20", "title": "a", "part": {"size": "1_0", "parts": ["${p}", {"size": 3}]}}
    file = {"name": "a", "data": {"source": "digits"}, "model": model, "training": {"steps": 1}}
    assert alarms(file, schema) == []
    changes: list[Any] = [
        {"share": 1},
        {"part": {}},
        {"sizes": {"a": "b"}},
        {"image_shape": []},
        {"titel": "a"},
    ]
    for wrong in changes:
        assert alarms({**file, "model": model | wrong}, schema), wrong
    assert alarms({**file, "model": {"type": "own/~1 {x}%20"}}, schema)


def test_where_it_cannot_be_written(cli: Cli) -> None:
    Path("file").write_text("")
    assert cli("schema", "-o", "file/x.json") == (1, "", "error: cannot write file/x.json: file exists\n")
