"""Ranges among a method's arguments."""

from __future__ import annotations

from collections.abc import Sequence


def low_high(name: str, given: Sequence[float]) -> tuple[float, float]:
    """Smallest and largest, as a list too: that is how a command line or a configuration file gives them."""
    if not isinstance(given, Sequence) or len(given) != 2:
        raise ValueError(f"{name} is the smallest and the largest value, such as 0.1,0.4; got {given}")
    return float(given[0]), float(given[1])
