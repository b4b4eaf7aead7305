"""The models, each an `Autoencoder`, all behind `create_model(name, **arguments)`."""

from mixcoder.models.autoencoder import Autoencoder
from mixcoder.models.convolutional import ConvAutoencoder
from mixcoder.models.factory import MODELS, create_model, register_model
from mixcoder.models.mixer_mlp import MixerMLP
from mixcoder.models.mixing import MIXERS, MixingLayer, register_mixer
from mixcoder.models.script import ScriptAutoencoder

__all__ = [
    "MIXERS",
    "MODELS",
    "Autoencoder",
    "ConvAutoencoder",
    "MixerMLP",
    "MixingLayer",
    "ScriptAutoencoder",
    "create_model",
    "register_mixer",
    "register_model",
]
