"""Optional packages, imported when something needs them."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def need(package: str, extra: str, who: str) -> Any:
    """Import a package, or raise ValueError naming the extra that brings it."""
    try:
        return import_module(package)
    except ModuleNotFoundError as missing:
        if missing.name != package:
            raise
        raise ValueError(f"{who} needs {package}, which is not installed: pip install 'autodidact[{extra}]'") from None
