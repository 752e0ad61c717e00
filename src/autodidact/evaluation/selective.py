"""How well scores of answers tell good from bad, and what answering only the best of them is worth."""

from __future__ import annotations

import numpy as np
from jaxtyping import Shaped

from autodidact.measures import auroc, rank_correlation, risk_coverage

POINTS = 100
"""Of a curve that is kept, at most."""


def selective(scores: Shaped[np.ndarray, " n"], quality: Shaped[np.ndarray, " n"]) -> dict[str, float]:
    """Figures of scores of answers whose quality is known, in [0, 1].

    Returns
    -------
    dict
        ``correlation``: Pearson's, and ``rank correlation``: Spearman's, 0 where one side is constant; ``AURC``: area
        under risk against coverage, with 1 - quality as the risk, less is better; ``quality at 50 %``: mean quality of
        the half with the highest scores; ``quality``: that of all; ``AUROC`` where every answer is either right or
        wrong, and both occur.
    """
    curve = risk_coverage(scores, 1 - quality.astype(np.float64))
    found = {
        "correlation": pearson(scores, quality),
        "rank correlation": spearman(scores, quality),
        "AURC": curve.aurc,
        "quality at 50 %": 1 - curve.risk_at(0.5),
        "quality": float(quality.mean()),
    }
    if set(np.unique(quality)) == {0, 1}:
        found["AUROC"] = auroc(scores, quality.astype(bool))
    return found


def curve(
    scores: Shaped[np.ndarray, " n"], quality: Shaped[np.ndarray, " n"], points: int = POINTS
) -> list[tuple[float, float]]:
    """Risk against coverage, as (coverage, risk): the answers with the highest scores are given first.

    Parameters
    ----------
    quality : of each answer, in [0, 1]; the risk is what it lacks of 1.
    points : at most, evenly spread over the answers, the first and the last among them; from 2.
    """
    whole = risk_coverage(scores, 1 - quality.astype(np.float64))
    kept = np.unique(np.linspace(0, len(whole.risk) - 1, points).round().astype(np.int64))
    return list(zip(whole.coverage[kept].tolist(), whole.risk[kept].tolist(), strict=True))


def spearman(first: Shaped[np.ndarray, " n"], second: Shaped[np.ndarray, " n"]) -> float:
    """Spearman's rank correlation, in [-1, 1]; 0 where one side is constant, or a single value."""
    return rank_correlation(first.tolist(), second.tolist()) if len(first) > 1 else 0.0


def pearson(first: Shaped[np.ndarray, " n"], second: Shaped[np.ndarray, " n"]) -> float:
    """Pearson's correlation, in [-1, 1]; 0 where one side is constant."""
    a, b = (x.astype(np.float64) - x.astype(np.float64).mean() for x in (first, second))
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else 0.0
