"""Names in the files of a run that only a plugin registers."""

from __future__ import annotations

from typing import Any

from mixcoder.data import SOURCES
from mixcoder.models import MIXERS, MODELS
from mixcoder.registry.registry import Registry
from mixcoder.text.sanitize import sanitize

_REGISTRIES: dict[str, Registry[Any]] = {"source": SOURCES, "type": MODELS, "mixer": MIXERS}
"""The keys that name what a plugin may register."""


def unknown_name(*sections: Any) -> str:
    """Returns a sentence for the first name that is not registered here; an empty one where all are.

    Args:
        sections: the `data` and `model` of a config, as somebody wrote them.
    """
    for section in sections:
        for key, registry in _REGISTRIES.items():
            name = section.get(key) if isinstance(section, dict) else None
            if isinstance(name, str) and name not in registry:
                return f"{registry.noun} '{sanitize(name)}' is not known here; load its plugin with --plugin"
    return ""
