"""Spearman's correlation, also where there is nothing to order."""

from __future__ import annotations

import pytest

from autodidact.measures import rank_correlation


def test_it_is_one_for_the_same_order_and_minus_one_for_the_reverse():
    assert rank_correlation([1, 2, 30], [-5.0, 0.1, 0.2]) == pytest.approx(1)
    assert rank_correlation([1, 2, 30], [3, 2, 1]) == pytest.approx(-1)


def test_ties_share_their_mean_rank():
    # Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: covariance 4.5 / 3, variances 4.5 / 3 and 5 / 3.
    assert rank_correlation([0, 1, 1, 2], [0, 1, 2, 3]) == pytest.approx((4.5 / 5) ** 0.5)


def test_what_is_constant_orders_nothing():
    assert rank_correlation([1.0, 1.0, 1.0], [1, 2, 3]) == 0.0


@pytest.mark.parametrize(("first", "second"), [([1], [1]), ([1, 2], [1, 2, 3])])
def test_too_short_or_unequal_lists_are_refused(first, second):
    with pytest.raises(ValueError, match="equally long"):
        rank_correlation(first, second)
