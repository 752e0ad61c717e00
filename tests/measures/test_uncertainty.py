"""Uncertainty: each measure against a loop in float64, its limits, and what cannot be told."""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autodidact.measures import (
    auroc,
    calibration_error,
    eigen_score,
    equivalence_classes,
    js_divergence,
    risk_coverage,
    semantic_entropy,
    token_confidence,
    vote_share,
)

labels = st.lists(st.integers(0, 4), min_size=2, max_size=12)
scored = st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=14)


@settings(max_examples=60, deadline=None)
@given(answers=st.lists(st.sampled_from(["a", "b", "c", None]), max_size=12))
def test_the_vote_share_is_that_of_a_count_and_samples_without_answer_count_for_none(answers) -> None:
    given = [answer for answer in answers if answer is not None]
    expected = max(given.count(answer) for answer in given) / len(answers) if given else None
    assert vote_share(answers) == expected


@settings(max_examples=60, deadline=None)
@given(classes=labels)
def test_semantic_entropy_is_that_of_the_shares_of_classes(classes) -> None:
    shares = [count / len(classes) for count in Counter(classes).values()]
    assert semantic_entropy(np.array(classes)) == pytest.approx(-sum(p * math.log(p) for p in shares), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(classes=labels, seed=st.integers(0, 99))
def test_with_log_probabilities_classes_weigh_what_their_samples_do(classes, seed) -> None:
    logprobs = np.random.default_rng(seed).normal(-500, 3, len(classes))
    weights = [math.exp(x + 500) for x in logprobs]
    shares = [sum(w for w, c in zip(weights, classes, strict=True) if c == one) / sum(weights) for one in set(classes)]
    expected = -sum(p * math.log(p) for p in shares)
    assert semantic_entropy(np.array(classes), logprobs) == pytest.approx(expected, abs=1e-10)


@settings(max_examples=60, deadline=None)
@given(pairs=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=12), seed=st.integers(0, 9))
def test_a_finer_partition_never_has_less_entropy(pairs, seed) -> None:
    coarse = np.array([first for first, _ in pairs])
    fine = np.array([4 * first + second for first, second in pairs])
    logprobs = np.random.default_rng(seed).normal(-5, 2, len(pairs))
    for weights in (None, logprobs):
        assert semantic_entropy(fine, weights) >= semantic_entropy(coarse, weights) - 1e-12


@pytest.mark.parametrize("n", [2, 3, 10])
def test_the_entropy_of_one_class_is_zero_and_that_of_singletons_the_log_of_their_number(n: int) -> None:
    assert semantic_entropy(np.zeros(n, dtype=np.int64)) == 0
    assert semantic_entropy(np.zeros(n, dtype=np.int64), np.linspace(-3.3, -0.1, n)) == 0
    assert semantic_entropy(np.arange(n)) == pytest.approx(math.log(n), abs=1e-12)


def test_a_sample_without_probability_counts_for_nothing() -> None:
    found = semantic_entropy(np.array([0, 1, 2]), np.array([-1.0, -1.0, -math.inf]))
    assert found == pytest.approx(math.log(2), abs=1e-12)


def test_the_spread_of_a_single_sample_is_not_known() -> None:
    assert semantic_entropy(np.array([0])) is None
    assert eigen_score(np.ones((1, 4))) is None
    assert vote_share([]) is None
    assert vote_share([None, None]) is None


def test_answers_that_follow_from_each_other_both_ways_are_of_one_class() -> None:
    entails = {("dog", "animal"), ("dog", "hound"), ("hound", "dog")}
    found = equivalence_classes(["dog", "animal", "hound", "dog", "cat"], lambda a, b: (a, b) in entails)
    assert found.tolist() == [0, 1, 0, 0, 2]


@settings(max_examples=60, deadline=None)
@given(numbers=st.lists(st.integers(0, 20), min_size=1, max_size=9), seed=st.integers(0, 99))
def test_classes_do_not_depend_on_the_order_of_the_samples(numbers, seed) -> None:
    """Under a relation that is no equivalence: numbers near each other."""

    def partition(order: list[int]) -> set[frozenset[int]]:
        found = equivalence_classes([str(n) for n in order], lambda a, b: abs(int(a) - int(b)) <= 1)
        return {frozenset(n for n, c in zip(order, found, strict=True) if c == one) for one in set(found.tolist())}

    shuffled = random.Random(seed).sample(numbers, len(numbers))
    ordered = sorted(set(numbers))
    gaps = [i for i, (a, b) in enumerate(itertools.pairwise(ordered), 1) if b - a > 1]
    runs = {frozenset(ordered[a:b]) for a, b in itertools.pairwise([0, *gaps, len(ordered)])}
    assert partition(numbers) == partition(shuffled) == runs


def test_confidence_is_read_off_the_log_probabilities() -> None:
    found = token_confidence([-0.5, -2.0, -0.2])
    assert found.mean == pytest.approx(-0.9)
    assert found.least == -2.0
    assert found.perplexity == pytest.approx((math.exp(0.5) * math.exp(2) * math.exp(0.2)) ** (1 / 3))
    assert token_confidence([math.log(1 / 7)] * 5).perplexity == pytest.approx(7)


def test_the_eigen_score_is_the_log_determinant_of_the_covariance_between_samples() -> None:
    for n, d in ((4, 9), (6, 3)):
        z = np.random.default_rng(n).normal(size=(n, d))
        centring = np.eye(d) - np.ones((d, d)) / d
        expected = np.linalg.slogdet(z @ centring @ z.T + 1e-3 * np.eye(n))[1] / n
        assert eigen_score(z) == pytest.approx(expected, abs=1e-8)


def test_samples_that_agree_have_a_lower_eigen_score_than_samples_that_do_not() -> None:
    z = np.random.default_rng(0).normal(size=(5, 16))
    assert eigen_score(np.repeat(z[:1], 5, axis=0)) < eigen_score(z[:1] + 0.1 * z) < eigen_score(z)


def test_jensen_shannon_is_that_of_a_loop_symmetric_and_bounded() -> None:
    p, q = np.random.default_rng(0).dirichlet(np.ones(4), size=(2, 6))
    p[0], q[0] = [1, 0, 0, 0], [0, 0.5, 0.5, 0]
    p[1] = q[1]
    p[2], q[2] = [0.5, 0.5, 0, 0], [0, 1, 0, 0]
    expected = []
    for a, b in zip(p.tolist(), q.tolist(), strict=True):
        middle = [(x + y) / 2 for x, y in zip(a, b, strict=True)]
        both = [sum(x * math.log(x / m) for x, m in zip(one, middle, strict=True) if x > 0) for one in (a, b)]
        expected.append(sum(both) / 2)
    np.testing.assert_allclose(js_divergence(p, q), expected, atol=1e-12)
    np.testing.assert_allclose(js_divergence(q, p), expected, atol=1e-12)
    assert expected[0] == pytest.approx(math.log(2))
    assert js_divergence(p, q)[1] == 0


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(st.integers(0, 100), st.booleans()), min_size=1, max_size=30), bins=st.integers(1, 12))
def test_calibration_error_is_that_of_a_loop_over_bins(rows, bins) -> None:
    total = 0.0
    for b in range(bins):
        # Whole percents, so that the ends of bins are compared exactly.
        inside = [(c / 100, r) for c, r in rows if 100 * b < c * bins <= 100 * (b + 1) or (b == 0 and c == 0)]
        if inside:
            said = sum(c for c, _ in inside) / len(inside)
            total += len(inside) / len(rows) * abs(sum(r for _, r in inside) / len(inside) - said)
    confidences = np.array([c / 100 for c, _ in rows])
    right = np.array([r for _, r in rows])
    assert calibration_error(confidences, right, bins) == pytest.approx(total, abs=1e-12)


def test_who_is_right_as_often_as_said_is_calibrated_and_who_is_sure_and_wrong_is_not() -> None:
    right = np.arange(10) < 7
    assert calibration_error(np.full(10, 0.7), right) == pytest.approx(0, abs=1e-12)
    assert calibration_error(np.ones(10), ~right) == pytest.approx(0.7)


@settings(max_examples=60, deadline=None)
@given(rows=scored)
def test_risk_is_the_mean_error_among_the_surest_with_ties_by_expectation(rows) -> None:
    found = risk_coverage(np.array([s for s, _ in rows]), np.array([e for _, e in rows]))
    for k in range(1, len(rows) + 1):
        last = sorted((s for s, _ in rows), reverse=True)[k - 1]
        sure = [e for s, e in rows if s > last]
        tied = [e for s, e in rows if s == last]
        expected = (sum(sure) + (k - len(sure)) * sum(tied) / len(tied)) / k
        assert found.risk[k - 1] == pytest.approx(expected, abs=1e-12)
        assert found.coverage[k - 1] == k / len(rows)
    assert found.aurc == pytest.approx(sum(found.risk) / len(rows), abs=1e-12)


def naive_aurc(scores: list[float], errors: list[float]) -> float:
    """Answer group after group of equal scores; within one, each answer costs what the group costs on average."""
    area, answered, paid, left = 0.0, 0, 0.0, list(zip(scores, errors, strict=True))
    while left:
        highest = max(score for score, _ in left)
        group = [error for score, error in left if score == highest]
        left = [(score, error) for score, error in left if score != highest]
        for _ in group:
            answered += 1
            paid += sum(group) / len(group)
            # A step of 1 / n on the axis of coverage, as high as the risk there.
            area += paid / answered / len(scores)
    return area


graded = st.lists(
    st.tuples(st.sampled_from([-1.5, -0.0, 0.0, 0.25, 1.0]), st.floats(0, 1, allow_subnormal=False)),
    min_size=1,
    max_size=24,
)


@settings(max_examples=80, deadline=None)
@given(rows=graded)
def test_the_area_under_risk_against_coverage_is_that_of_a_loop_over_groups_of_equal_scores(rows) -> None:
    scores, errors = [score for score, _ in rows], [error for _, error in rows]
    assert risk_coverage(np.array(scores), np.array(errors)).aurc == pytest.approx(
        naive_aurc(scores, errors), abs=1e-12
    )


def test_the_area_of_ties_is_the_mean_area_over_all_their_orders() -> None:
    scores, errors = [3.0, 3.0, 1.0, 1.0, 1.0], np.array([1.0, 0.0, 0.25, 1.0, 0.0])
    orders = [
        [*first, *second] for first in itertools.permutations([0, 1]) for second in itertools.permutations([2, 3, 4])
    ]
    areas = [np.mean([errors[order[:k]].mean() for k in range(1, 6)]) for order in orders]
    assert risk_coverage(np.array(scores), errors).aurc == pytest.approx(np.mean(areas), abs=1e-12)
    # By hand: the first two cost 1/2 each, the last three 5/12 each.
    steps = [1 / 2, 1 / 2, (1 + 5 / 12) / 3, (1 + 10 / 12) / 4, (1 + 15 / 12) / 5]
    assert naive_aurc(scores, errors.tolist()) == pytest.approx(sum(steps) / 5, abs=1e-12)


def test_the_risk_of_ties_is_the_mean_over_all_their_orders() -> None:
    scores, errors = np.array([2, 1, 1, 1, 0]), np.array([0, 1, 0, 0, 1])
    orders = [[0, *middle, 4] for middle in itertools.permutations([1, 2, 3])]
    risks = [[errors[order[:k]].mean() for k in range(1, 6)] for order in orders]
    np.testing.assert_allclose(risk_coverage(scores, errors).risk, np.mean(risks, axis=0))


def test_a_perfect_order_has_the_least_area_and_a_constant_score_the_error_of_all() -> None:
    errors = np.arange(10) >= 6
    least = sum((k - 6) / k for k in range(7, 11)) / 10
    assert risk_coverage(-errors.astype(float), errors).aurc == pytest.approx(least)
    np.testing.assert_allclose(risk_coverage(np.zeros(10), errors).risk, 0.4)
    assert risk_coverage(errors.astype(float), errors).aurc > 0.4


def test_risk_is_read_at_the_next_coverage_that_can_be_had() -> None:
    found = risk_coverage(np.array([0.9, 0.8, 0.7, 0.1]), np.array([0.0, 1.0, 0.0, 1.0]))
    assert [found.risk_at(c) for c in (0.1, 0.25, 0.5, 0.6, 1.0)] == [0, 0, 0.5, pytest.approx(1 / 3), 0.5]
    with pytest.raises(ValueError, match=r"coverage must be in \(0, 1\], got 0"):
        found.risk_at(0.0)


@settings(max_examples=60, deadline=None)
@given(rows=scored.filter(lambda rows: len({p for _, p in rows}) == 2))
def test_auroc_is_the_share_of_pairs_in_the_right_order(rows) -> None:
    ones, zeros = [s for s, p in rows if p], [s for s, p in rows if not p]
    pairs = [(a > b) + (a == b) / 2 for a in ones for b in zeros]
    found = auroc(np.array([s for s, _ in rows]), np.array([p for _, p in rows]))
    assert found == pytest.approx(sum(pairs) / len(pairs), abs=1e-12)


@pytest.mark.usefixtures("unchecked_shapes")
def test_what_makes_no_sense_is_refused() -> None:
    two, right = np.array([0.2, 0.4]), np.array([True, False])
    with pytest.raises(ValueError, match="auroc needs positives and negatives, got 2 and 0"):
        auroc(two, np.array([True, True]))
    for measure in (auroc, risk_coverage, calibration_error):
        with pytest.raises(ValueError, match="two equally long vectors that are not empty"):
            measure(two, right[:1])
        with pytest.raises(ValueError, match="not empty"):
            measure(two[:0], right[:0])
        with pytest.raises(ValueError, match="got NaN"):
            measure(np.array([math.nan, 1.0]), right)
    with pytest.raises(ValueError, match="between 0 and 1"):
        calibration_error(two + 1, right)
    with pytest.raises(ValueError, match="needs a bin, got 0"):
        calibration_error(two, right, 0)
    with pytest.raises(ValueError, match="without tokens has no confidence"):
        token_confidence([])
    with pytest.raises(ValueError, match="one log-probability a sample"):
        semantic_entropy(np.array([0, 1]), two[:1])
    with pytest.raises(ValueError, match="must not be NaN, nor all infinite"):
        semantic_entropy(np.array([0, 1]), np.full(2, -math.inf))
    with pytest.raises(ValueError, match="alpha must be above 0"):
        eigen_score(np.eye(3), 0.0)
    with pytest.raises(ValueError, match="NaN or infinite values"):
        eigen_score(np.full((2, 2), math.nan))
    with pytest.raises(ValueError, match="sum to 1 in each row"):
        js_divergence(two[None], two[None])
    with pytest.raises(ValueError, match="one shape"):
        js_divergence(two[None], two[None, :1])
