"""How much of a text was changed."""

from __future__ import annotations


def edit_ratio(first: str, second: str) -> float:
    """Levenshtein distance of two texts as a share of the longer one, in [0, 1]; 0 for two empty ones."""
    longer = max(len(first), len(second))
    if not longer:
        return 0.0
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        corner, row[0] = row[0], i
        for j, b in enumerate(second, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (a != b))
    return row[-1] / longer
