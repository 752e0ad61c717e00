"""Dense retrieval: which passages of a corpus are near a query in a model's embeddings; and what two indices say
together. It knows nothing of the model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64

Embed = Callable[[Sequence[str]], Float64[np.ndarray, "n d"]]
"""Texts -> their embeddings, a row each; zeros for a text that says nothing."""
AT_ONCE = 256
"""Queries whose cosines with all passages are held at once."""


@runtime_checkable
class Index(Protocol):
    """What finds passages of a corpus."""

    def tops(self, queries: Sequence[str], k: int) -> list[list[int]]:
        """For each query the indices of at most k passages, the best first."""
        ...


class Dense:
    """An index of passages by the cosine of their embeddings with a query's.

    Passages are embedded once, when the index is made, or not at all where `embeddings` are given; queries are
    embedded together, each text once as long as the index lives. The arithmetic is float64.

    Parameters
    ----------
    passages : one or more.
    embed : texts -> embeddings, of any length above 0.
    embeddings : of the passages, where they are known already, in their order.

    Raises
    ------
    ValueError
        No passages, another number of embeddings, or one that holds NaN or infinite values.
    """

    def __init__(
        self, passages: Sequence[str], embed: Embed, *, embeddings: Float64[np.ndarray, "n d"] | None = None
    ) -> None:
        if not passages:
            raise ValueError("there is nothing to search: the corpus holds no passage")
        self._embed = embed
        found = embed(passages) if embeddings is None else embeddings
        if len(found) != len(passages):
            raise ValueError(f"{len(passages)} passages were given with {len(found)} embeddings")
        self._passages = _of_length_one(found)
        self._queries: dict[str, Float64[np.ndarray, " d"]] = {}

    def __len__(self) -> int:
        return len(self._passages)

    def scores(self, query: str) -> Float64[np.ndarray, " n"]:
        """The cosine of every passage, in [-1, 1]; 0 for all where the query is blank, and for a blank passage."""
        return np.asarray(self._embedded([query])[0] @ self._passages.T)

    def top(self, query: str, k: int) -> list[int]:
        """The indices of the k best passages, see `tops`."""
        return self.tops([query], k)[0]

    def tops(self, queries: Sequence[str], k: int) -> list[list[int]]:
        """For each query the indices of the k nearest passages, the best first, of equal ones the first.

        A passage or query without an embedding is near nothing: for a blank query none is found, and a blank passage
        is never found.
        """
        embedded, blank = self._embedded(queries), ~self._passages.any(axis=1)
        found: list[list[int]] = []
        for start in range(0, len(queries), AT_ONCE):
            part = embedded[start : start + AT_ONCE]
            cosines = part @ self._passages.T
            cosines[:, blank] = -np.inf
            cosines[~part.any(axis=1)] = -np.inf
            for row, order in zip(cosines, np.argsort(-cosines, axis=1, kind="stable")[:, :k], strict=True):
                found.append([int(place) for place in order if row[place] > -np.inf])
        return found

    def _embedded(self, queries: Sequence[str]) -> Float64[np.ndarray, "q d"]:
        new = [query for query in dict.fromkeys(queries) if query not in self._queries]
        blank = np.zeros(self._passages.shape[1])
        self._queries |= {query: blank for query in new if not query.strip()}
        if said := [query for query in new if query.strip()]:
            self._queries |= zip(said, _of_length_one(self._embed(said)), strict=True)
        return np.stack([self._queries[query] for query in queries]) if queries else np.empty((0, len(blank)))


class Fused:
    r"""What several indices of one corpus say together: reciprocal rank fusion (Cormack, Clarke and Büttcher 2009).

    A passage scores the sum over the indices of :math:`1 / (c + r)`, with r its rank there, from 1; an index that does
    not find it among its first `depth` adds nothing.

    Parameters
    ----------
    indices : one or more, of the same passages.
    constant : c, from 0: how little the first ranks stand out. Paper: 60.
    depth : passages of each index that count, from 1.

    Raises
    ------
    ValueError
        No index, a constant below 0 or a depth below 1.
    """

    def __init__(self, indices: Sequence[Index], *, constant: float = 60.0, depth: int = 100) -> None:
        if not indices or not constant >= 0 or depth < 1:
            raise ValueError(
                "fusion needs an index, a constant of 0 or more and a depth of at least 1, got "
                f"{len(indices)} indices, {constant} and {depth}"
            )
        self.indices, self.constant, self.depth = tuple(indices), constant, depth

    def tops(self, queries: Sequence[str], k: int) -> list[list[int]]:
        """For each query the indices of the k best passages, the best first, of equal ones the first."""
        every = [index.tops(queries, max(k, self.depth)) for index in self.indices]
        found: list[list[int]] = []
        for ranked in zip(*every, strict=True):
            score: dict[int, float] = defaultdict(float)
            for places in ranked:
                for rank, place in enumerate(places, 1):
                    score[place] += 1 / (self.constant + rank)
            found.append(sorted(score, key=lambda place: (-score[place], place))[:k])
        return found


def _of_length_one(rows: Float64[np.ndarray, "n d"]) -> Float64[np.ndarray, "n d"]:
    rows = np.asarray(rows, dtype=np.float64)
    if not np.isfinite(rows).all():
        raise ValueError("a text is embedded as NaN or infinite values; the model's weights may have diverged")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
