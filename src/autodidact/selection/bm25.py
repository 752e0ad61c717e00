"""BM25: which passages of a corpus have the words of a query, the rare ones above all. Words only, no model."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from autodidact.selection.consensus import words


class BM25:
    r"""An index of passages (Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework", section 3).

    A passage d scores for a query q, over the words t of q as often as they stand in it::

        sum_t idf(t) tf(t, d) (k1 + 1) / (tf(t, d) + k1 (1 - b + b |d| / mean |d|))
        idf(t) = log(1 + (N - n(t) + 1/2) / (n(t) + 1/2))

    with N passages of which n(t) have the word. The 1 in the logarithm, as in Lucene, keeps a word that most passages
    have from counting against them. Words are those of `words`.

    Parameters
    ----------
    passages : one or more.
    k1 : from 0; how much a further occurrence of a word adds.
    b : in [0, 1]; how far the length of a passage is divided out.

    Raises
    ------
    ValueError
        No passages, k1 < 0, b outside [0, 1].
    """

    def __init__(self, passages: Sequence[str], *, k1: float = 1.5, b: float = 0.75) -> None:
        if not passages:
            raise ValueError("there is nothing to search: the corpus holds no passage")
        if not k1 >= 0 or not 0 <= b <= 1:
            raise ValueError(f"k1 must be 0 or more and b in [0, 1], got {k1} and {b}")
        self.k1 = k1
        counts = [Counter(words(passage)) for passage in passages]
        lengths = np.array([count.total() for count in counts], dtype=np.float64)
        mean = lengths.mean()
        self._penalty = k1 * (1 - b + b * lengths / mean) if mean > 0 else np.full(len(counts), k1)
        holders: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for place, count in enumerate(counts):
            for word, times in count.items():
                holders[word].append((place, times))
        self._holders = {word: np.array(found).T for word, found in holders.items()}

    def __len__(self) -> int:
        return len(self._penalty)

    def scores(self, query: str) -> Float64[np.ndarray, " n"]:
        """The score of every passage, from 0; 0 for all where no word of the query is known."""
        found = np.zeros(len(self))
        for word, times in Counter(words(query)).items():
            if word in self._holders:
                where, tf = self._holders[word]
                idf = math.log(1 + (len(self) - len(where) + 0.5) / (len(where) + 0.5))
                found[where] += times * idf * tf * (self.k1 + 1) / (tf + self._penalty[where])
        return found

    def top(self, query: str, k: int) -> list[int]:
        """The indices of the k best passages, the best first, of equal ones the first; none that scores 0."""
        found = self.scores(query)
        order = np.argsort(-found, kind="stable")[:k]
        return [int(place) for place in order if found[place] > 0]

    def tops(self, queries: Sequence[str], k: int) -> list[list[int]]:
        """`top` of each query."""
        return [self.top(query, k) for query in queries]
