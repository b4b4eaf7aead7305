"""ONNX files compute what the model does, say what they take, and are there only if they do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

import mixcoder
from mixcoder.errors import ExportError
from mixcoder.experiments.runs.model_files import hash_weights
from mixcoder.export import onnx as export
from tests.conftest import slow, slow_but
from tests.models.test_pull_back import Refined
from tests.zoo import KINDS, SHAPE, build, save


@pytest.mark.parametrize("kind", slow_but(1, sorted(KINDS.keys() - {"listing"})))  # which is `cnn` with less
def test_onnx_computes_what_torch_does(kind: str, tmp_path: Path) -> None:
    """On other images than those of the check, through files alone, for batches 1, 2 and 65."""
    model = save(kind, tmp_path / "run")
    encoder, decoder = mixcoder.export_onnx(tmp_path / "run", tmp_path / "onnx")
    assert sorted(path.name for path in (tmp_path / "onnx").iterdir()) == ["decoder.onnx", "encoder.onnx"]
    encode, decode = (
        onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]) for path in (encoder, decoder)
    )
    for size in (1, 2, 65):
        images = np.random.default_rng(size).random((size, *SHAPE), dtype=np.float32)
        [latents] = encode.run(["latents"], {"images": images})
        [copies] = decode.run(["images"], {"latents": latents})
        with torch.inference_mode():
            np.testing.assert_allclose(latents, model.encode(torch.from_numpy(images)), rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(copies, model(torch.from_numpy(images)), rtol=1e-5, atol=1e-5)


@slow
def test_a_gradient_within_the_forward(tmp_path: Path) -> None:
    """It becomes ordinary operations, for batches of any size; the export itself compares each with torch."""
    model = Refined().eval()
    encoder, _ = mixcoder.export_onnx(model, tmp_path)
    session = onnxruntime.InferenceSession(encoder, providers=["CPUExecutionProvider"])
    images = torch.rand(5, 1, 4, 6)
    [latents] = session.run(["latents"], {"images": images.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(latents, model.encode(images), rtol=1e-4, atol=1e-5)


class _Read(Refined):
    """A model that reads elements, which no graph does."""

    def _encode(self, images: Tensor) -> Tensor:
        return super()._encode(images * float(images.mean()))


@slow
def test_what_torch_cannot_export_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="torch cannot export the encoder .* wrote nothing"):
        mixcoder.export_onnx(_Read(), tmp_path)
    assert not list(tmp_path.iterdir())


@slow
def test_the_files_say_what_they_take(tmp_path: Path) -> None:
    model = save("cnn", tmp_path / "run")
    for path in mixcoder.export_onnx(tmp_path / "run", tmp_path):
        found = onnx.load(path)
        onnx.checker.check_model(found, full_check=True)
        metadata = {entry.key: json.loads(entry.value) for entry in found.metadata_props}
        assert metadata["image_shape"] == list(SHAPE)
        assert metadata["latent_shape"] == list(model.latent_shape)
        assert metadata["value_range"] == [0, 1]
        assert metadata["weights_sha256"] == hash_weights(model)
        assert str(Path(export.__file__).parents[2]) not in str(found)  # nothing of where it was made
        sizes = [dimension.dim_param for dimension in found.graph.input[0].type.tensor_type.shape.dim]
        assert sizes[0] == "batch"


def test_a_file_that_computes_something_else_is_not_left_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check is real: no tolerance at all cannot be met by both halves of this model."""
    monkeypatch.setattr(export, "TOLERANCE", 0.0)
    with pytest.raises(ExportError, match=r"is off by .* wrote nothing"):
        mixcoder.export_onnx(build("baseline"), tmp_path / "onnx")
    assert not list((tmp_path / "onnx").iterdir())


@slow
def test_an_older_export_survives_a_failing_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = mixcoder.export_onnx(build("mlp"), tmp_path)
    before = [path.read_bytes() for path in paths]
    monkeypatch.setattr(export, "TOLERANCE", 0.0)
    with pytest.raises(ExportError):
        mixcoder.export_onnx(build("baseline"), tmp_path)
    assert [path.read_bytes() for path in paths] == before


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(export, "_PACKAGES", ("onnx", "no_such_package"))
    with pytest.raises(ExportError, match=r'needs no_such_package; pip install "mixcoder\[onnx\]"'):
        mixcoder.export_onnx(build("cnn"), tmp_path)
