"""BM25 against its formula, written out naively."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autodidact.selection import BM25

sentence = st.lists(st.sampled_from(["the", "cat", "sat", "on", "a", "mat"]), max_size=8).map(" ".join)


def naive(passages: list[str], query: str, k1: float, b: float) -> list[float]:
    texts = [passage.split() for passage in passages]
    mean = sum(map(len, texts)) / len(texts)
    found = []
    for text in texts:
        score = 0.0
        for word in query.split():
            n = sum(word in other for other in texts)
            if not n:
                continue
            idf = math.log(1 + (len(texts) - n + 0.5) / (n + 0.5))
            tf = text.count(word)
            if tf:
                score += idf * tf * (k1 + 1) / (tf + k1 * (1 - b + b * len(text) / mean))
        found.append(score)
    return found


@settings(max_examples=80, deadline=None)
@given(
    passages=st.lists(sentence, min_size=1, max_size=6),
    query=sentence,
    k1=st.sampled_from([0.0, 0.9, 1.5]),
    b=st.sampled_from([0.0, 0.4, 1.0]),
)
def test_scores_are_those_of_the_formula(passages: list[str], query: str, k1: float, b: float) -> None:
    index = BM25(passages, k1=k1, b=b)
    wanted = naive(passages, query, k1, b)
    assert np.allclose(index.scores(query), wanted, rtol=0, atol=1e-12)
    top = index.top(query, 3)
    order = sorted(range(len(passages)), key=lambda k: (-index.scores(query)[k], k))
    assert top == [k for k in order if index.scores(query)[k] > 0][:3]


def test_an_empty_query_and_unknown_words_score_nothing_and_ties_go_by_index() -> None:
    index = BM25(["a cat", "a dog", "a cat", "!"])
    assert not index.scores("").any()
    assert not index.scores("bird").any()
    assert index.top("", 2) == index.top("bird", 2) == []
    assert index.top("cat", 5) == [0, 2]
    assert index.top("Cat!", 1) == [0]
    assert not BM25(["", "?"]).scores("a").any()


@pytest.mark.parametrize(
    ("passages", "options", "said"),
    [
        ([], {}, "the corpus holds no passage"),
        (["a"], {"k1": -1.0}, "k1 must be 0 or more"),
        (["a"], {"b": 2.0}, "b in"),
    ],
)
def test_what_makes_no_index_is_said(passages: list[str], options: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        BM25(passages, **options)
