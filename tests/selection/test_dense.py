"""Dense retrieval against a naive search in float64, and what two indices say together."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autodidact.selection import BM25, Dense, Fused

WORDS = ["cat", "sat", "mat", "dog", "ran"]
sentence = st.lists(st.sampled_from(WORDS), max_size=5).map(" ".join)


class Counting:
    """Embeds a text by how often each word stands in it, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        self.asked.append(list(texts))
        return np.array([[text.split().count(word) for word in WORDS] for text in texts], dtype=np.float64)


def naive(passages: list[str], query: str, k: int) -> list[int]:
    """Cosines one by one, in the order of greatest first, then of the index; a text without a word is near nothing."""
    found: list[tuple[float, int]] = []
    for place, passage in enumerate(passages):
        a = [query.split().count(word) for word in WORDS]
        b = [passage.split().count(word) for word in WORDS]
        lengths = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
        if lengths:
            # Equal cosines are equal numbers here, whatever the order of the sums.
            found.append((-round(sum(x * y for x, y in zip(a, b, strict=True)) / lengths, 12), place))
    return [place for _, place in sorted(found)[:k]]


def rounded(index: Dense, query: str) -> list[float]:
    return [round(float(value), 12) for value in index.scores(query)]


@settings(max_examples=80, deadline=None)
@given(passages=st.lists(sentence, min_size=1, max_size=6), queries=st.lists(sentence, max_size=4))
def test_what_is_found_is_what_a_naive_search_finds(passages: list[str], queries: list[str]) -> None:
    index = Dense(passages, Counting())
    for query, found in zip(queries, index.tops(queries, 3), strict=True):
        wanted = naive(passages, query, len(passages))
        scores = rounded(index, query)
        assert [scores[place] for place in found] == [scores[place] for place in wanted[:3]]
        assert set(found) <= set(wanted)


def test_cosines_are_those_of_the_formula_whatever_the_lengths_of_the_embeddings() -> None:
    rng = np.random.default_rng(0)
    rows, query = rng.normal(size=(7, 5)), rng.normal(size=(1, 5))
    index = Dense([f"p{k}" for k in range(7)], lambda texts: query * 3, embeddings=rows)
    wanted = [float(row @ query[0] / (np.linalg.norm(row) * np.linalg.norm(query[0]))) for row in rows]
    assert np.allclose(index.scores("a"), wanted, rtol=0, atol=1e-14)
    assert index.top("a", 3) == sorted(range(7), key=lambda k: -wanted[k])[:3]


def test_ties_go_by_index_and_a_blank_query_finds_nothing() -> None:
    index = Dense(["cat", "dog", "cat", ""], Counting())
    assert index.top("cat", 2) == [0, 2]
    assert index.top("cat", 9) == [0, 2, 1]
    assert index.tops(["", " ", "dog"], 1) == [[], [], [1]]
    assert not index.scores("").any()
    assert index.tops([], 2) == []


def test_texts_are_embedded_together_and_once() -> None:
    embed = Counting()
    index = Dense(["cat", "dog"], embed)
    index.tops(["cat", "dog", "cat", ""], 1)
    index.tops(["dog", "mat"], 1)
    assert embed.asked == [["cat", "dog"], ["cat", "dog"], ["mat"]]
    given_ = Counting()
    Dense(["cat", "dog"], given_, embeddings=np.eye(2))
    assert given_.asked == []


def test_what_makes_no_index_is_said() -> None:
    with pytest.raises(ValueError, match="the corpus holds no passage"):
        Dense([], Counting())
    with pytest.raises(ValueError, match="1 passages were given with 2 embeddings"):
        Dense(["a"], Counting(), embeddings=np.eye(2))
    with pytest.raises(ValueError, match="NaN or infinite"):
        Dense(["a"], lambda texts: np.full((len(texts), 2), np.nan))


class Fixed:
    def __init__(self, *ranked: int) -> None:
        self.ranked = list(ranked)

    def tops(self, queries: Sequence[str], k: int) -> list[list[int]]:
        return [self.ranked[:k] for _ in queries]


def test_fused_ranks_are_those_of_the_formula_and_ties_go_by_index() -> None:
    both = Fused([Fixed(3, 1, 2), Fixed(1, 4)], constant=60.0)
    scores = {3: 1 / 61, 1: 1 / 62 + 1 / 61, 2: 1 / 63, 4: 1 / 62}
    assert both.tops(["a"], 9) == [sorted(scores, key=lambda place: -scores[place])]
    assert Fused([Fixed(5, 2), Fixed(2, 5)]).tops(["a", "b"], 1) == [[2], [2]]
    assert Fused([Fixed(5, 2), Fixed(4)], depth=1).tops(["a"], 1) == [[4]]


def test_words_and_embeddings_find_together_what_one_of_them_finds() -> None:
    passages = ["cat sat", "dog ran", "mat"]
    assert Fused([BM25(passages), Dense(passages, Counting())]).tops(["dog", ""], 1) == [[1], []]


@pytest.mark.parametrize("options", [{"constant": -1.0}, {"depth": 0}])
def test_what_cannot_be_fused_is_said(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="fusion needs"):
        Fused([Fixed(0)], **options)
    with pytest.raises(ValueError, match="got 0 indices"):
        Fused([])
