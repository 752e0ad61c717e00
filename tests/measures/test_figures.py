"""Accuracy, purity and intervals against hand-made cases and an outside implementation."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from autodidact.measures import accuracy, cluster_purity, mean_interval, paired_interval


def test_accuracy_is_the_share_of_right_rows() -> None:
    assert accuracy(torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1, 1, 2])) == 0.75


def test_purity_counts_the_most_common_class_of_each_cluster() -> None:
    clusters = torch.tensor([7, 7, 7, 2, 2, 9])
    classes = torch.tensor([4, 4, 5, 5, 1, 1])
    assert cluster_purity(clusters, classes) == pytest.approx((2 + 1 + 1) / 6)
    assert cluster_purity(classes, classes) == 1.0
    assert cluster_purity(torch.zeros(6, dtype=torch.long), classes) == pytest.approx(1 / 3)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99])
def test_an_interval_over_seeds_is_students(level: float) -> None:
    values = [0.81, 0.84, 0.79, 0.9, 0.83]
    found = mean_interval(values, level)
    low, high = stats.t.interval(level, 4, loc=found.mean, scale=stats.sem(values))
    assert found == pytest.approx((sum(values) / 5, low, high), rel=1e-10)


def test_a_paired_interval_is_that_of_the_differences() -> None:
    a, b = [0.9, 0.8, 0.85, 0.7], [0.85, 0.78, 0.8, 0.69]
    found = paired_interval(a, b)
    reference = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high), rel=1e-10)
    assert found.mean == pytest.approx(0.0325)


def test_equal_differences_leave_no_doubt() -> None:
    assert paired_interval([2.0, 3.0, 4.0], [1.0, 2.0, 3.0]) == (1.0, 1.0, 1.0)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    draws = torch.randn(2000, 5, generator=torch.Generator().manual_seed(0)).tolist()
    covered = sum(found.low <= 0 <= found.high for found in map(mean_interval, draws))
    assert covered / 2000 == pytest.approx(0.95, abs=0.015)


@pytest.mark.usefixtures("unchecked_shapes")
def test_bad_input_is_named() -> None:
    labels = torch.tensor([0, 1])
    for call, message in (
        (lambda: mean_interval([1.0]), "at least 2 values, got 1"),
        (lambda: mean_interval([1.0, float("nan")]), "finite values"),
        (lambda: mean_interval([1.0, 2.0], 1.0), "between 0 and 1, got 1.0"),
        (lambda: paired_interval([1.0, 2.0], [1.0]), "seed by seed, got 2 and 1"),
        (lambda: accuracy(labels, labels[:1]), r"accuracy needs .* got \(2,\) and \(1,\)"),
        (lambda: cluster_purity(labels[:0], labels[:0]), "non-empty"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
