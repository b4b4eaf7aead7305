"""A colour for each run, the same in plots and on the page."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Sequence

from matplotlib.colors import LinearSegmentedColormap, to_hex

from mixcoder.experiments.results.records import Record
from mixcoder.text.values import format_value

_HUES = (0.60, 0.07, 0.42, 0.90, 0.13, 0.76)
"""Blue, orange, green, magenta, yellow, violet: told apart by most eyes, in this order."""
_SPECTRUM = LinearSegmentedColormap.from_list(
    "spectrum", ["#3b5bdb", "#0c8599", "#2f9e44", "#e08600", "#e03131", "#ae3ec9"]
)


def run_colours(records: Sequence[Record]) -> list[str]:
    """Returns a colour (#rrggbb) for each run, of middling lightness so that it reads on white and on black.

    Where the runs differ in several settings, the hue tells one of them, in words if possible, and the
    lightness the order of the others. Where they differ in one, few words have hues of their own and
    anything else runs through a spectrum in its order.
    """
    texts = [{axis: format_value(value) for axis, value in record.values.items()} for record in records]
    axis = _hue_axis(texts)
    if axis is None:
        return [_spectral(i, len(records)) for i in range(len(records))]
    groups: dict[str, list[int]] = {}
    for i, values in enumerate(texts):
        groups.setdefault(values.get(axis, ""), []).append(i)
    colours = [""] * len(records)
    for hue, members in zip(_HUES, groups.values(), strict=False):
        for rank, i in enumerate(members):
            colours[i] = _shade(hue, rank, len(members))
    return colours


def _hue_axis(texts: Sequence[dict[str, str]]) -> str | None:
    """Returns the axis that hues tell; None where a spectrum tells the order of the runs."""
    axes = dict.fromkeys(axis for values in texts for axis in values)
    kinds = {axis: list(dict.fromkeys(values.get(axis, "") for values in texts)) for axis in axes}
    varying = {axis: kind for axis, kind in kinds.items() if len(kind) > 1}
    few = [axis for axis, kind in varying.items() if len(kind) <= len(_HUES)]
    if not few or (len(varying) == 1 and _are_numbers(varying[few[0]])):
        return None
    ranks = [(_are_numbers(varying[axis]), len(varying[axis])) for axis in few]
    return few[ranks.index(min(ranks))]


def _are_numbers(texts: Iterable[str]) -> bool:
    return all(text.replace(".", "", 1).replace("e-", "", 1).isdigit() for text in texts)


def _shade(hue: float, rank: int, count: int) -> str:
    """Returns a colour from deep to pale within one hue; a single one is in the middle."""
    share = rank / (count - 1) if count > 1 else 0.5
    return to_hex(colorsys.hsv_to_rgb(hue, 0.95 - 0.35 * share, 0.55 + 0.3 * share))


def spectrum(count: int) -> list[str]:
    """Returns colours (#rrggbb) for what has an order, from blue to magenta."""
    return [_spectral(rank, count) for rank in range(count)]


def _spectral(rank: int, count: int) -> str:
    """Returns a colour from blue over green and amber to magenta; a single one is blue."""
    return to_hex(_SPECTRUM(rank / max(1, count - 1)))
