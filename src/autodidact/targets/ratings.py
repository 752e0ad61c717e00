"""Ratings to learn from: a judge's own, recalibrated by how similar an answer is to the wanted one."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64

Scale = Literal["ranks", "values"]


def recalibrated(
    own: Float64[np.ndarray, " n"],
    similarity: Float64[np.ndarray, " n"],
    *,
    weight: float = 0.5,
    scale: Scale = "ranks",
) -> Int64[np.ndarray, " n"]:
    r"""Ratings from 0 to 9: a weighted mean of what a judge says and of the similarity to the reference.

    With both brought to [0, 1], :math:`q = \mathrm{round}(9 (w\, own + (1 - w)\, similarity))`. Self-J (2409.00935)
    combines them so, and publishes neither the weight nor the scale.

    Parameters
    ----------
    own : expected ratings, in [0, 9].
    similarity : cosines, in [-1, 1].
    weight : w in [0, 1]; 1 for the judge's ratings alone.
    scale : "ranks" takes the rank of each among all, ties at their mean, so that neither is the other's master by its
        spread; "values" own / 9, and the cosine, 0 where it is negative.

    Raises
    ------
    ValueError : numbers that differ, none, NaN, a weight outside [0, 1].
    """
    from scipy.stats import rankdata

    if own.shape != similarity.shape or own.ndim != 1 or len(own) == 0:
        raise ValueError(f"one rating and one similarity an answer are needed, got {own.shape} and {similarity.shape}")
    if not (np.isfinite(own).all() and np.isfinite(similarity).all()):
        raise ValueError("ratings and similarities must be finite; leave out answers without one, such as empty ones")
    if not 0 <= weight <= 1:
        raise ValueError(f"weight must be in [0, 1], got {weight}")
    if scale == "ranks":
        first, second = ((rankdata(x) - 0.5) / len(x) for x in (own, similarity))
    else:
        first, second = own / 9, similarity.clip(0, 1)
    return np.asarray(np.rint(9 * (weight * first + (1 - weight) * second)), dtype=np.int64)
