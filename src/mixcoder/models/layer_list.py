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

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag, with_config
from typing_extensions import TypeAliasType, TypedDict

from mixcoder.models.activations import ActivationName
from mixcoder.models.factory import LARGEST_SIZE, MOST_LAYERS
from mixcoder.models.mixing import MIXER, MIXERS, Bias, MixerPart
from mixcoder.registry.problems import describe_value
from mixcoder.text.sanitize import sanitize

PATCH_BIAS: Bias = "channel"
KERNEL_SIZE = 1
"""What an entry has that states none."""
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
            Bias,
            Field(
                default=PATCH_BIAS,
                description="one for each `position`, the same for all (`channel`), or `none`",
            ),
        ]
    ]
    activation: NotRequired[_Activation]


@with_config(_STRICT)
class MixingLayerEntry(TypedDict):
    """A mixing layer: x + scale · act(mix(norm(x)))."""

    mixer: Annotated[MixerPart, Field(description="by name, or a map of the `name` and its arguments")]
    kernel_size: NotRequired[
        Annotated[int, Field(default=KERNEL_SIZE, ge=1, le=LARGEST_SIZE, description="of a convolution, odd")]
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


def _check_repetition(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the entry of one layer as it is.

    Raises:
        ValueError: it is to be repeated by a key of its own; says how several layers are written.
    """
    for kind in ("repeat", "loop"):
        if kind in entry:
            times = _written(entry[kind])
            raise ValueError(f"{kind} has a list of layers; write {{{kind}: {times}, layers: [{{…}}]}}")
    return entry


def _written(value: object) -> str:
    """Returns a value as a file states it."""
    return sanitize(value) if isinstance(value, str) else describe_value(value)


def _check_part(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the entry of a mixing layer as it is.

    Raises:
        ValueError: arguments of the mixing layer stand beside its name; says where they belong.
    """
    name = entry["mixer"]
    if isinstance(name, str) and name in MIXERS:
        own = MIXER.arguments(name).model_fields.keys() - MixingLayerEntry.__annotations__.keys()
        misplaced = ", ".join(f"{key}: {_written(entry[key])}" for key in entry if key in own)
        if misplaced:
            raise ValueError(f"write mixer: {{name: {name}, {misplaced}}}; this belongs to the mixing layer")
    return entry


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
        Annotated[PatchLayerEntry, BeforeValidator(_check_repetition), Tag("layer[channels]")]
        | Annotated[
            MixingLayerEntry,
            BeforeValidator(_check_repetition),
            BeforeValidator(_check_part),
            Tag("layer[mixer]"),
        ]
        | Annotated[RepeatEntry, Tag("layer[repeat]")]
        | Annotated[LoopEntry, Tag("layer[loop]")]
        | Annotated[Literal["film"], Tag("layer[film]")],
        Discriminator(
            entry_kind,
            custom_error_type="layer_kind",
            custom_error_message=f"is no layer; a layer has one of the keys {', '.join(KINDS)}, or is {FILM}",
            custom_error_context={"kinds": [*KINDS, FILM], "registry": MIXERS},
        ),
    ],
)
