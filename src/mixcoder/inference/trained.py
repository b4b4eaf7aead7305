"""A trained model, and the images it is to work on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mixcoder.data import DataSource
from mixcoder.errors import MixcoderError
from mixcoder.experiments.run_directory import find_run, load
from mixcoder.inference.inputs import Inputs, Place
from mixcoder.inference.shaping import exact, fitted
from mixcoder.models.autoencoder import Autoencoder


def open_model(run: str | Path | Autoencoder) -> Autoencoder:
    """The model of a run, in evaluation mode; one that is given is taken as it is.

    Raises:
        RunDirectoryError: there is no trained model, or it is damaged.
    """
    return run.eval() if isinstance(run, Autoencoder) else load(run)


def inputs_of(
    run: str | Path | Autoencoder, model: Autoencoder, images: Iterable[Place], fit: bool
) -> Inputs:
    """The images at some places for `model`; its run's own data source has the run's own arguments."""
    shaping = fitted if fit else exact
    return Inputs(images, model.image_shape, shaping, _own_source(run))


def _own_source(run: str | Path | Autoencoder) -> dict[str, DataSource]:
    """The data source that a run was trained on, by name; nothing where that is not known."""
    if isinstance(run, Autoencoder):
        return {}
    try:
        stated = find_run(Path(run)).read_run()
    except MixcoderError:  # the model is there all the same
        return {}
    return {stated.data[0]: stated.create_source()}
