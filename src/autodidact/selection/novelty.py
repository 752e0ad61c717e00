"""What is new: texts that have little in common with those that are known, in pools that grow to many thousands."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from autodidact.selection.consensus import overlap, words


class Novelty:
    """A pool of texts that tells whether a further one is new: ROUGE-L F of at most a bound with each of them.

    Self-Instruct (2212.10560, section 2.2) compares with every text. Here the words that two texts share, in whatever
    order, bound their longest common subsequence from above, and only texts that could exceed the bound by that are
    compared in full. The answers are the same.

    Parameters
    ----------
    at_most : in [0, 1], the greatest ROUGE-L F with any text of the pool. The paper's 0.7.
    pool : what is known already.

    Raises
    ------
    ValueError
        A bound outside [0, 1].
    """

    def __init__(self, at_most: float = 0.7, pool: Iterable[str] = ()) -> None:
        if not 0 <= at_most <= 1:
            raise ValueError(f"at_most must be in [0, 1], got {at_most}")
        self.at_most = at_most
        self._texts: list[list[str]] = []
        # Word -> the texts that have it, and how often it stands in each.
        self._holders: dict[str, tuple[array[int], array[int]]] = defaultdict(lambda: (array("q"), array("q")))
        for text in pool:
            self.add(text)

    def __len__(self) -> int:
        return len(self._texts)

    def add(self, text: str) -> None:
        """Put a text into the pool, new or not."""
        own = words(text)
        for word, count in Counter(own).items():
            where, counts = self._holders[word]
            where.append(len(self._texts))
            counts.append(count)
        self._texts.append(own)

    def closest(self, text: str) -> float:
        """The greatest ROUGE-L F with a text of the pool, where it exceeds the bound; otherwise 0."""
        own = words(text)
        shared = np.zeros(len(self._texts), dtype=np.int64)
        for word, count in Counter(own).items():
            if word in self._holders:
                where, counts = (np.frombuffer(column, dtype=np.int64) for column in self._holders[word])
                shared[where] += np.minimum(counts, count)
        reach = [(2 * int(shared[k]) / (len(own) + len(self._texts[k])), int(k)) for k in np.flatnonzero(shared)]
        most = 0.0
        for bound, k in sorted(reach, reverse=True):
            if bound <= max(most, self.at_most):
                break
            most = max(most, overlap(own, self._texts[k]))
        return most if most > self.at_most else 0.0

    def is_new(self, text: str) -> bool:
        """Whether no text of the pool is too much like it."""
        return self.closest(text) == 0.0


def novel(texts: Sequence[str], pool: Sequence[str], at_most: float = 0.7) -> list[bool]:
    """Which texts say something new: ROUGE-L of at most 0.7 with the pool (Self-Instruct, 2212.10560, section 2.2).

    A text is compared with the whole pool and with those texts before it that were kept, so the first of several alike
    is kept, and a dropped text drops no other.

    Parameters
    ----------
    texts : candidates, in the order in which they count.
    pool : what is known already.
    at_most : in [0, 1], the greatest ROUGE-L F with any of them.

    Raises
    ------
    ValueError
        A bound outside [0, 1].
    """
    known = Novelty(at_most, pool)
    kept = []
    for text in texts:
        kept.append(known.is_new(text))
        if kept[-1]:
            known.add(text)
    return kept
