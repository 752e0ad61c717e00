"""Two orders against a judge's liking for a place, and the principle that decides."""

from __future__ import annotations

import numpy as np
import pytest

from autodidact.selection.principles import debiased, dominant, principle_count, principle_scores, weighted_draw


def test_a_judge_that_always_takes_the_first_place_prefers_nothing():
    # Whatever stands first wins: the log-odds of the first answer are positive in one order and negative in the other.
    rng = np.random.default_rng(0)
    liking = rng.random((50, 3)) + 0.1
    assert not debiased(liking, -liking).any()
    assert not principle_scores(liking, -liking).any()


def test_where_both_orders_agree_the_preference_is_their_mean_and_swapping_the_answers_turns_it_around():
    one, swapped = np.array([2.0, -1.0, 0.5, -0.5, 0.0]), np.array([1.0, -3.0, -0.1, 0.2, 1.0])
    assert debiased(one, swapped).tolist() == [1.5, -2.0, 0, 0, 0]
    assert debiased(-swapped, -one).tolist() == (-debiased(one, swapped)).tolist()


def test_scores_are_divided_by_the_variance_of_all_log_odds_of_their_principle():
    rng = np.random.default_rng(1)
    one, swapped = rng.normal(size=(40, 4)) * [1, 2, 3, 0], rng.normal(size=(40, 4)) * [1, 2, 3, 0]
    found = principle_scores(one, swapped)
    for k in range(3):
        every = [*one[:, k], *swapped[:, k]]
        variance = sum((x - sum(every) / 80) ** 2 for x in every) / 80
        for n in range(40):
            a, b = one[n, k], swapped[n, k]
            assert found[n, k] == pytest.approx((a + b) / 2 / variance if a * b > 0 else 0)
    assert not found[:, 3].any()


def test_the_principle_of_the_greatest_score_decides_and_turning_all_of_them_turns_the_label():
    rng = np.random.default_rng(2)
    for _ in range(100):
        scores = rng.normal(size=rng.integers(1, 9)).tolist()
        place, score = dominant(scores)
        assert abs(score) == max(map(abs, scores))
        assert scores[place] == score
        assert dominant([-one for one in scores]) == (place, -score)
    assert dominant([1.0, -1.0]) == (0, 1.0)


def test_the_number_of_principles_is_geometric_up_to_the_most():
    rng = np.random.default_rng(3)
    counts = np.bincount([principle_count(rng, 8) for _ in range(10_000)], minlength=9)[1:]
    shares = 0.8 ** np.arange(8) / (0.8 ** np.arange(8)).sum()
    reach = 4 * np.sqrt(10_000 * shares * (1 - shares))
    assert (np.abs(counts - 10_000 * shares) < reach).all()
    assert counts.sum() == 10_000


def test_weights_say_how_often_a_principle_is_drawn_and_none_is_drawn_twice():
    rng = np.random.default_rng(4)
    draws = [weighted_draw(rng, [1.0, 1.0, 128.0], 2).tolist() for _ in range(300)]
    assert all(len(set(one)) == 2 for one in draws)
    assert sum(2 in one for one in draws) > 290
