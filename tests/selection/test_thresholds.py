"""From which score on an answer is given."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from autodidact.selection.thresholds import coverage_threshold, risk_threshold


def test_the_coverage_that_is_asked_for_is_reached_by_as_few_answers_as_do():
    scores = np.array([1.0, 5.0, 3.0, 3.0, 2.0])
    assert [coverage_threshold(scores, share) for share in (0.2, 0.4, 0.6, 0.8, 1.0)] == [5, 3, 3, 2, 1]


def naive(scores, wrong, risk):
    met = [t for t in sorted(set(scores)) if np.mean(wrong[scores >= t]) <= risk]
    return met[0] if met else float("inf")


def test_a_risk_is_met_by_the_lowest_threshold_that_meets_it_with_ties_given_together():
    rng = np.random.default_rng(0)
    for risk in (0.0, 0.1, 0.3, 0.9):
        scores, wrong = rng.integers(0, 6, 40).astype(float), (rng.random(40) < 0.4).astype(float)
        assert risk_threshold(scores, wrong, risk) == naive(scores, wrong, risk)
    assert risk_threshold(np.array([1.0, 1.0]), np.array([1.0, 0.0]), 0.4) == float("inf")


def test_with_a_confidence_the_true_risk_is_exceeded_about_as_rarely_as_it_says():
    rng = np.random.default_rng(1)
    exceeded = answered = 0
    for _ in range(200):
        scores = rng.random(1000)
        # The risk of an answer with score s is 1 - s, so that of all from t on is (1 - t) / 2.
        wrong = rng.random(1000) > scores
        found = risk_threshold(scores, wrong, 0.2, confidence=0.9)
        exceeded += np.isfinite(found) and (1 - found) / 2 > 0.2
        answered += np.isfinite(found)
    assert answered > 190
    assert exceeded <= binom.ppf(0.999, 200, 0.1)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="none of them NaN"):
        coverage_threshold(np.array([np.nan]), 0.5)
    with pytest.raises(ValueError, match=r"coverage must be in \(0, 1\]"):
        coverage_threshold(np.array([1.0]), 0.0)
    with pytest.raises(ValueError, match="one outcome a score"):
        risk_threshold(np.array([1.0, 2.0]), np.array([1.0]), 0.5)
    with pytest.raises(ValueError, match=r"confidence in \[0, 1\)"):
        risk_threshold(np.array([1.0]), np.array([1.0]), 0.5, confidence=1.0)
