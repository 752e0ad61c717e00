"""Average and forgetting against their definition."""

from __future__ import annotations

import pytest

from autodidact.measures import retention


def test_forgetting_is_what_each_earlier_set_was_at_its_best_minus_what_it_is_at_the_end():
    found = retention([[0.9], [0.95, 0.8], [0.7, 0.85, 0.6]])
    assert found.average == pytest.approx((0.7 + 0.85 + 0.6) / 3)
    assert found.forgetting == pytest.approx(((0.95 - 0.7) + 0.0) / 2)


def test_of_losses_the_least_is_the_best():
    found = retention([[1.0], [1.5, 2.0], [1.2, 3.0, 0.5]], higher_is_better=False)
    assert found.forgetting == pytest.approx(((1.2 - 1.0) + (3.0 - 2.0)) / 2)


def test_one_data_set_forgets_nothing():
    assert retention([[0.5]]) == (0.5, 0.0)


@pytest.mark.parametrize("scores", [[], [[1.0], [1.0]]])
def test_rows_of_another_length_are_refused(scores):
    with pytest.raises(ValueError, match="row t holds"):
        retention(scores)
