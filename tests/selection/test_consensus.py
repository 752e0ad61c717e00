"""Consensus among texts: the vote, the medoid, the overlap of words, what is new, and how long a text should be."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autodidact.selection import folded, length_window, medoid, novel, rouge_l, vote, words

short = st.text("ab", max_size=3)
sentence = st.lists(st.sampled_from(["the", "cat", "sat", "on", "a", "mat", "dog", "ran"]), max_size=9)


@settings(max_examples=60, deadline=None)
@given(answers=st.lists(short, max_size=12), tenths=st.integers(0, 10))
def test_the_vote_is_that_of_a_naive_counter(answers: list[str], tenths: int) -> None:
    expected = None
    for answer in answers:
        count = sum(other == answer for other in answers)
        if Fraction(count, len(answers)) < Fraction(tenths, 10):
            continue
        best = sum(other == expected for other in answers)
        if expected is None or count > best or (count == best and len(answer) < len(expected)):
            expected = answer
    assert vote(answers, tenths / 10) == expected


def test_among_equally_frequent_answers_the_shortest_wins_then_the_first() -> None:
    assert vote(["long", "ab", "long", "ab", "c"]) == "ab"
    assert vote(["zz", "aa", "aa", "zz"]) == "zz"


@pytest.mark.parametrize(("count", "n", "share"), [(3, 10, 0.3), (7, 100, 0.07), (1, 3, 1 / 3), (10, 10, 1.0)])
def test_a_share_equal_to_the_least_suffices_and_one_vote_less_does_not(count: int, n: int, share: float) -> None:
    rest = [f"other {i}" for i in range(n)]
    assert vote(["yes"] * count + rest[: n - count], share) == "yes"
    if count > 1:
        assert vote(["yes"] * (count - 1) + rest[: n - count + 1], share) is None


def test_no_answers_have_no_vote() -> None:
    assert vote([]) is None
    assert vote([], 0.5) is None


def naive_medoid(candidates: list[str], similarity: Callable[[str, str], float], tau: float) -> int | None:
    """The paper's rule for three candidates, word for word; for others the general form where no two are equal."""
    if len(candidates) == 3:
        o0, o1, o2 = candidates
        if o0 in (o1, o2):
            return 0
        if o1 == o2:
            return 1
    table = [[similarity(a, b) if a != b else 1.0 for b in candidates] for a in candidates]
    size = range(len(candidates))
    if min(table[i][j] for i in size for j in size if i < j) <= tau:
        return None
    sums = [sum(Fraction(table[i][j]) for j in size if j != i) for i in size]
    return sums.index(max(sums))


@settings(max_examples=60, deadline=None)
@given(candidates=st.lists(sentence.map(" ".join), min_size=3, max_size=3), tau=st.sampled_from([0.01, 0.4, 2 / 3]))
def test_the_consensus_of_three_is_that_of_the_papers_rule(candidates: list[str], tau: float) -> None:
    assert medoid(candidates, rouge_l, tau) == naive_medoid(candidates, rouge_l, tau)


@settings(max_examples=60, deadline=None)
@given(candidates=st.lists(sentence.map(" ".join), min_size=2, max_size=6, unique=True))
def test_the_consensus_of_any_number_is_the_most_similar_to_all_others(candidates: list[str]) -> None:
    assert medoid(candidates, rouge_l) == naive_medoid(candidates, rouge_l, 0.01)


def test_every_order_of_three_similarities_gives_the_greatest_sum_with_ties_in_order() -> None:
    for values in itertools.product((0.2, 0.5, 0.8), repeat=3):
        table = dict(zip(("ab", "ac", "bc"), values, strict=True))

        def similarity(a: str, b: str, table: dict[str, float] = table) -> float:
            return table["".join(sorted(a + b))]

        assert medoid(["a", "b", "c"], similarity) == naive_medoid(["a", "b", "c"], similarity, 0.01)


def test_a_least_similarity_equal_to_the_bound_is_disagreement() -> None:
    assert medoid(["a", "b"], lambda a, b: 0.01, 0.01) is None
    assert medoid(["a", "b"], lambda a, b: math.nextafter(0.01, 1), 0.01) == 0


def test_equal_candidates_win_without_being_compared_the_most_frequent_first() -> None:
    def refuse(a: str, b: str) -> float:
        raise AssertionError

    assert medoid(["x", "same", "same"], refuse) == 1
    assert medoid(["same"] * 5, refuse) == 0
    assert medoid(["a", "b", "b", "a", "b"], refuse) == 1
    assert medoid(["a", "b", "b", "a"], refuse) == 0


@pytest.mark.parametrize("order", itertools.permutations(range(3)))
@pytest.mark.parametrize("third", ["c", "a", "a b c", "the A b and the B a"])
def test_of_three_the_two_that_are_equal_once_folded_win_in_every_order(order: tuple[int, ...], third: str) -> None:
    candidates = [("A b", "a B.", third)[i] for i in order]
    found = medoid([folded(text) for text in candidates], rouge_l)
    assert found is not None
    assert folded(candidates[found]) == "a b"
    # Of the two it is the one that came first, as it was written.
    assert found == min(order.index(0), order.index(1))
    # As they were written all three differ, so that it was folding which made two of them equal.
    assert len({*candidates}) == 3


@settings(max_examples=60, deadline=None)
@given(candidates=st.lists(sentence.map(" ".join), min_size=3, max_size=3, unique=True))
def test_another_order_changes_the_consensus_only_where_candidates_tie(candidates: list[str]) -> None:
    def total(i: int) -> Fraction:
        return sum((Fraction(rouge_l(candidates[i], candidates[j])) for j in range(3) if j != i), Fraction(0))

    first = medoid(candidates, rouge_l)
    for order in itertools.permutations(range(3)):
        found = medoid([candidates[i] for i in order], rouge_l)
        assert (found is None) == (first is None)
        if found is not None and first is not None:
            assert total(order[found]) == total(first)


def naive_rouge(a: list[str], b: list[str]) -> float:
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
    longest = table[-1][-1]
    if not longest:
        return 0.0
    precision, recall = longest / len(b), longest / len(a)
    return 2 * precision * recall / (precision + recall)


@settings(max_examples=60, deadline=None)
@given(a=sentence, b=sentence)
def test_rouge_is_the_harmonic_mean_of_precision_and_recall_of_the_longest_common_subsequence(a, b) -> None:
    assert rouge_l(" ".join(a), " ".join(b)) == pytest.approx(naive_rouge(a, b), abs=1e-12)
    assert rouge_l(" ".join(b), " ".join(a)) == rouge_l(" ".join(a), " ".join(b))


def test_rouge_of_long_texts_is_that_of_the_table() -> None:
    a = [str(i * i % 17) for i in range(150)]
    b = [str(i * 3 % 17) for i in range(200)]
    assert rouge_l(" ".join(a), " ".join(b)) == pytest.approx(naive_rouge(a, b), abs=1e-12)


def test_rouge_reads_words_in_lower_case_without_punctuation() -> None:
    assert rouge_l("The cat, sat!", "the  CAT sat") == 1
    assert rouge_l("snake_case", "snake case") == 1
    assert rouge_l("police killed the gunman", "police kill the gunman") == 0.75
    assert rouge_l("", "") == rouge_l("a", "") == rouge_l("!?", "!?") == 0
    assert words("Él dijo: 3,5 €") == ["él", "dijo", "3", "5"]


def test_folded_texts_are_in_lower_case_without_punctuation_and_with_single_spaces() -> None:
    assert folded("  It's  (nearly)\n DONE. ") == "its nearly done"


def test_what_is_new_is_compared_with_the_pool_and_with_what_was_kept_before_it() -> None:
    a, b, c = "one two three four", "one two three five", "six seven"
    assert novel([a, b, c], [], 0.7) == [True, False, True]
    assert novel([b, a, c], [], 0.7) == [True, False, True]
    assert novel([a, c], [b], 0.7) == [False, True]


def test_a_text_that_was_dropped_drops_no_other() -> None:
    first, middle, last = "a b c d", "c d a b e f", "e f g h"
    assert rouge_l(middle, first) > 0.35
    assert rouge_l(middle, last) > 0.35
    assert novel([first, middle, last], [], 0.35) == [True, False, True]


def test_a_similarity_equal_to_the_bound_is_new() -> None:
    assert rouge_l("a b", "a c") == 0.5
    assert novel(["a b"], ["a c"], 0.5) == [True]
    assert novel(["a b"], ["a c"], 0.49) == [False]


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(sentence.map(" ".join), max_size=7), pool=st.lists(sentence.map(" ".join), max_size=3))
def test_the_novelty_filter_is_a_loop_over_the_growing_pool(texts: list[str], pool: list[str]) -> None:
    known, expected = list(pool), []
    for text in texts:
        expected.append(max((rouge_l(text, other) for other in known), default=0.0) <= 0.7)
        known += [text] * expected[-1]
    assert novel(texts, pool) == expected


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(0, 40), min_size=2, max_size=8).filter(lambda lengths: len(set(lengths)) > 1))
def test_the_window_is_the_mean_length_and_two_standard_deviations_on_either_side(lengths: list[int]) -> None:
    mean = sum(lengths) / len(lengths)
    spread = math.sqrt(sum((length - mean) ** 2 for length in lengths) / len(lengths))
    window = length_window(["x" * length for length in lengths])
    assert (window.low, window.high) == pytest.approx((mean - 2 * spread, mean + 2 * spread))
    assert window.widened == 0


def test_the_lower_end_is_accepted_and_the_upper_end_is_not() -> None:
    window = length_window(["x" * 9, "x" * 11])
    assert (window.low, window.high) == (8, 12)
    assert [n for n in range(20) if window.holds("x" * n)] == [8, 9, 10, 11]


def test_a_single_example_widens_the_window_and_says_by_how_much() -> None:
    with pytest.warns(UserWarning, match="one length, 10 characters: lengths within 5 of it are accepted"):
        window = length_window(["x" * 10])
    assert (window.low, window.high, window.widened) == (5, 15, 5)
    with pytest.warns(UserWarning, match="within 1 of it"):
        assert length_window(["", ""]).holds("")


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match=r"min_share must be in \[0, 1\], got 1.5"):
        vote(["a"], 1.5)
    with pytest.raises(ValueError, match="two or more candidates, got 1"):
        medoid(["a"], rouge_l)
    with pytest.raises(ValueError, match=r"at_most must be in \[0, 1\], got -1"):
        novel([], [], -1.0)
    with pytest.raises(ValueError, match="needs an example"):
        length_window([])
    with pytest.raises(ValueError, match="widen must be above 0"):
        length_window(["a"], 0.0)
