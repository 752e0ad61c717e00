"""Preferences under principles: two orders against a judge's liking for a place, and the principle that decides."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64


def debiased(one: Float64[np.ndarray, "*n"], swapped: Float64[np.ndarray, "*n"]) -> Float64[np.ndarray, "*n"]:
    """How much the first of two answers is preferred when a judge saw them in both orders (SALMON, 2310.05910).

    The mean of both where they agree on which is better, else 0: a judge that always takes what comes first prefers
    nothing.

    Parameters
    ----------
    one, swapped : log-odds of the first answer against the second, asked in that order and in the other.
    """
    return np.where(np.sign(one) * np.sign(swapped) > 0, (one + swapped) / 2, 0.0)


def principle_scores(
    one: Float64[np.ndarray, "n k"], swapped: Float64[np.ndarray, "n k"]
) -> Float64[np.ndarray, "n k"]:
    r"""Preferences under each principle, made comparable: :math:`c_k = d_k / \mathrm{Var}_k` (SALMON, section 3.2).

    d is the `debiased` preference, and the variance that of all log-odds of the principle, both orders together. It is
    the variance and not its root, as in the published code: a principle on which the judge is rarely sure weighs more.

    Parameters
    ----------
    one, swapped : see `debiased`, of n pairs under k principles.

    Returns
    -------
    0 under a principle whose log-odds are all alike.
    """
    spread = np.concatenate([one, swapped]).var(axis=0) if len(one) else np.ones(one.shape[1])
    return debiased(one, swapped) / np.where(spread > 0, spread, np.inf)


def principle_count(rng: np.random.Generator, most: int, p: float = 0.2) -> int:
    """How many principles are in force: m in 1..most with probability proportional to (1 - p)^(m - 1)."""
    shares = (1 - p) ** np.arange(most)
    return int(rng.choice(most, p=shares / shares.sum())) + 1


def dominant(scores: Sequence[float]) -> tuple[int, float]:
    """The principle that decides, the one of the greatest absolute score and of equals the first; and its score."""
    place = int(np.abs(np.asarray(scores)).argmax())
    return place, float(scores[place])


def weighted_draw(rng: np.random.Generator, weights: Sequence[float], count: int) -> Int64[np.ndarray, " c"]:
    """Places drawn one after another without putting them back, each in proportion to its weight."""
    shares = np.asarray(weights, dtype=np.float64)
    return np.asarray(rng.choice(len(shares), size=count, replace=False, p=shares / shares.sum()), dtype=np.int64)
