"""How a figure, its rounds and what it was measured on are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def ranging(rounds: Sequence[float], digits: str) -> str:
    """The least and the greatest of a figure's rounds, behind their median."""
    return f" ({min(rounds):{digits}} to {max(rounds):{digits}})"


def between(ends: Sequence[float] | None, digits: str, scale: float = 1.0) -> str:
    """The same, of figures whose rounds are told as least and greatest, where they are told."""
    return ranging([scale * one for one in ends], digits) if ends else ""


def heading(found: Mapping[str, Any], title: str) -> str:
    """The heading of a part; what a GPU took stands under that of the processor."""
    return "The same on a GPU. " if found.get("device") else f"## {title}\n\n"


def machine(found: Mapping[str, Any]) -> str:
    """On what the figures were measured."""
    if device := found.get("device"):
        return f"on one {device}"
    return f"on a processor with {found['threads']} thread(s)"


def versions(found: Mapping[str, Any]) -> str:
    """Of what the figures were measured with."""
    return ", ".join(f"{name} {version}" for name, version in found["versions"].items())
