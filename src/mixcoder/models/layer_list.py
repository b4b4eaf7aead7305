"""The layers of an encoder or a decoder, as an experiment file lists them.

    decoder:
      - {channels: 58, bias: position}                a layer on every patch
      - film                                          scale and shift by the latent
      - repeat: 5                                     the same list of layers, each time with new weights
        layers: [{mixer: kronecker}, {channels: 58}]
      - loop: 3                                       the same list of layers, each time with the same weights
        layers: [{mixer: {name: grouped, groups: 4}}]

The key that a layer begins with says what it is. Types are checked here; what needs the grid or the channels,
where the layers are made.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Discriminator, Field, Tag, with_config
from typing_extensions import TypeAliasType, TypedDict

from mixcoder.models.activations import ActivationName
from mixcoder.models.factory import LARGEST_SIZE, MOST_LAYERS
from mixcoder.models.mixing import MixerPart

_STRICT = ConfigDict(strict=True, extra="forbid")
_Channels = Annotated[int, Field(ge=1, le=LARGEST_SIZE, description="of a patch's vector behind the layer")]
_Activation = Annotated[ActivationName, Field(description="in place of the model's")]
_Times = Annotated[int, Field(ge=1, le=MOST_LAYERS, description="how often the layers are applied")]
_Layers = Annotated[
    list["LayerEntry"], Field(min_length=1, description="those that are applied, one after the other")
]


@with_config(_STRICT)
class PatchLayerEntry(TypedDict):
    """A layer on every patch: act(Linear(x)); where the channels stay, x + scale · act(Linear(norm(x)))."""

    channels: _Channels
    bias: NotRequired[
        Annotated[
            Literal["position", "channel", "none"],
            Field(
                description="one for each `position`, the same for all (`channel`, the default), or `none`"
            ),
        ]
    ]
    activation: NotRequired[_Activation]


@with_config(_STRICT)
class MixingLayerEntry(TypedDict):
    """A mixing layer: x + scale · act(mix(norm(x)))."""

    mixer: Annotated[MixerPart, Field(description="by name, or a map of the `name` and its arguments")]
    kernel_size: NotRequired[
        Annotated[int, Field(ge=1, le=LARGEST_SIZE, description="of a convolution, odd; 1 by default")]
    ]
    activation: NotRequired[_Activation]


@with_config(_STRICT)
class RepeatEntry(TypedDict):
    """Layers several times, each time with weights of their own."""

    repeat: _Times
    layers: _Layers


@with_config(_STRICT)
class LoopEntry(TypedDict):
    """Layers several times with the same weights."""

    loop: _Times
    layers: _Layers


KINDS = ("channels", "mixer", "repeat", "loop")
FILM = "film"


def entry_kind(entry: Any) -> str | None:
    """Returns the key that says what an entry is, `film` for that word, and None for anything else."""
    if isinstance(entry, dict):
        return next((f"layer[{kind}]" for kind in KINDS if kind in entry), None)
    return f"layer[{FILM}]" if entry == FILM else None


LayerEntry = TypeAliasType(
    "LayerEntry",
    Annotated[
        Annotated[PatchLayerEntry, Tag("layer[channels]")]
        | Annotated[MixingLayerEntry, Tag("layer[mixer]")]
        | Annotated[RepeatEntry, Tag("layer[repeat]")]
        | Annotated[LoopEntry, Tag("layer[loop]")]
        | Annotated[Literal["film"], Tag("layer[film]")],
        Discriminator(
            entry_kind,
            custom_error_type="layer_kind",
            custom_error_message=f"is no layer; a layer has one of the keys {', '.join(KINDS)}, or is {FILM}",
            custom_error_context={"kinds": [*KINDS, FILM]},
        ),
    ],
)
