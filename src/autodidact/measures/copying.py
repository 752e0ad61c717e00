"""Copying: how much of a text stands word by word in others."""

from __future__ import annotations

from collections.abc import Sequence


def copied_share(text: str, sources: Sequence[str], n: int = 4) -> float | None:
    """Share of a text's runs of n words that stand in one of the sources, in [0, 1]; None for a shorter text.

    Raises
    ------
    ValueError
        n below 1.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    runs = _runs(text, n)
    if not runs:
        return None
    known = set[tuple[str, ...]]().union(*(_runs(source, n) for source in sources))
    return sum(run in known for run in runs) / len(runs)


def _runs(text: str, n: int) -> list[tuple[str, ...]]:
    words = text.lower().split()
    return [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]
