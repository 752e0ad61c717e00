"""The Fréchet distance of two sets of features."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from autodidact.measures.frechet import frechet_distance

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(50, 4)) @ RNG.normal(size=(4, 4)), RNG.normal(size=(70, 4)) + 1


def test_it_is_the_formula_with_a_matrix_root() -> None:
    one, other = np.cov(A.T), np.cov(B.T)
    gap = np.square(A.mean(0) - B.mean(0)).sum()
    want = gap + np.trace(one + other - 2 * sqrtm(one @ other).real)
    assert frechet_distance(A, B) == pytest.approx(want, rel=1e-9)
    assert frechet_distance(B, A) == pytest.approx(want, rel=1e-9)


def test_it_is_0_for_the_same_set_and_the_squared_shift_for_a_shifted_one() -> None:
    assert frechet_distance(A, A) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(A, A + np.array([3.0, 0, 0, 4.0])) == pytest.approx(25)


def test_of_one_feature_it_compares_mean_and_deviation() -> None:
    a, b = A[:, :1], B[:, :1]
    want = (a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2
    assert frechet_distance(a, b) == pytest.approx(want)


@pytest.mark.usefixtures("wrong_types")
def test_sets_of_one_row_or_of_other_sizes_are_refused() -> None:
    for other in (A[:1], A[:, :2]):
        with pytest.raises(ValueError, match="of one size are compared"):
            frechet_distance(A, other)
