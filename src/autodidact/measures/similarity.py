"""How similar texts are, by their characters alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64


def ngram_cosines(first: Sequence[str], second: Sequence[str], longest: int = 3) -> Float64[np.ndarray, " n"]:
    """Cosine of the TF-IDF vectors of each pair of texts over character n-grams, in [0, 1].

    Frequencies in documents are those of all the texts given. Upper and lower case are alike.

    Parameters
    ----------
    longest : n-grams are of one character up to so many.

    Returns
    -------
    NaN where one of the two is empty: it has no direction.

    Raises
    ------
    ValueError : numbers that differ.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    if len(first) != len(second):
        raise ValueError(f"pairs of texts are compared, got {len(first)} and {len(second)}")
    if not any(first) and not any(second):
        return np.full(len(first), np.nan)
    # A single character must count too: by default only words of two do.
    found = TfidfVectorizer(analyzer="char", ngram_range=(1, longest)).fit([*first, *second])
    a, b = found.transform(first), found.transform(second)
    cosines = np.asarray(a.multiply(b).sum(axis=1), dtype=np.float64).ravel().clip(0, 1)
    empty = np.array([not (x and y) for x, y in zip(first, second, strict=True)], dtype=bool)
    return np.where(empty, np.nan, cosines)
