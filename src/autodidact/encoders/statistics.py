"""What is known of the data before training: ranges of columns, mean and spread of channels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def statistic(given: Any, key: str) -> Any:
    """One statistic by name, None where it is not known.

    Parameters
    ----------
    given : a mapping or an object with "mean" and "std", or "minimum" and "maximum"; a pair (mean, std); or None.
    key : which of them.
    """
    if isinstance(given, tuple) and not hasattr(given, "_fields"):
        given = dict(zip(("mean", "std"), given, strict=True))
    return given.get(key) if isinstance(given, Mapping) else getattr(given, key, None)
