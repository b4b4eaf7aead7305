"""The models, each an `Autoencoder`, all behind `create_model(name, **arguments)`."""

from mixcoder.models.autoencoder import Autoencoder
from mixcoder.models.convolutional import ConvAutoencoder
from mixcoder.models.factory import MODELS, create_model, register_model
from mixcoder.models.grid_mixing import DepthwiseMixing, KroneckerMixing
from mixcoder.models.mixer_mlp import MixerMLP
from mixcoder.models.mixing import MIXERS, MixingLayer, register_mixer
from mixcoder.models.script import ScriptAutoencoder
from mixcoder.models.stack import StackedMixer
from mixcoder.models.token_mixing import GroupedMixing, TokenMlpMixing

__all__ = [
    "MIXERS",
    "MODELS",
    "Autoencoder",
    "ConvAutoencoder",
    "DepthwiseMixing",
    "GroupedMixing",
    "KroneckerMixing",
    "MixerMLP",
    "MixingLayer",
    "ScriptAutoencoder",
    "StackedMixer",
    "TokenMlpMixing",
    "create_model",
    "register_mixer",
    "register_model",
]
