"""What data is called after where it lies."""

from __future__ import annotations

import os
from pathlib import Path

_KINDS = ("shards:", "hf:", "hf-stream:")
"""What may stand before a place and says how it is read."""


def place_name(place: str | Path) -> str:
    """The last part of a place; where that is no name (``.``, ``..``, ``~``), the name of the folder that is meant."""
    text = str(place)
    named = Path(text).name
    path = Path(next((text.removeprefix(kind) for kind in _KINDS if text.startswith(kind)), text))
    if path.name not in ("", "..", "~"):
        return named
    # Not resolved: a folder that is a link keeps its own name.
    return Path(os.path.abspath(path.expanduser())).name or named or text  # noqa: PTH100
