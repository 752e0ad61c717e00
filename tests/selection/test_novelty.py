"""A pool of texts tells what is new as a comparison with every text would."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autodidact.selection import Novelty, novelty, rouge_l

sentence = st.lists(st.sampled_from(["the", "cat", "sat", "on", "a", "mat"]), max_size=7).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(pool=st.lists(sentence, max_size=8), text=sentence, at_most=st.sampled_from([0.0, 0.4, 2 / 3, 0.7, 1.0]))
def test_the_closest_text_is_that_of_a_comparison_with_each(pool: list[str], text: str, at_most: float) -> None:
    most = max((rouge_l(text, other) for other in pool), default=0.0)
    known = Novelty(at_most, pool)
    assert known.closest(text) == (most if most > at_most else 0.0)
    assert known.is_new(text) == (most <= at_most)


def test_few_texts_of_a_large_pool_are_compared_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Novelty(0.7, [f"write the number {k} and the number {k * k}" for k in range(400)])
    compared = []
    monkeypatch.setattr(novelty, "overlap", lambda a, b: compared.append(b) or 0.0)
    assert pool.is_new("name three birds that live near the sea")
    assert compared == []


def test_a_text_that_was_added_makes_its_like_known() -> None:
    pool = Novelty()
    assert pool.is_new("sort the letters of the word")
    pool.add("sort the letters of the word")
    assert len(pool) == 1
    assert not pool.is_new("sort the letters of a word")
