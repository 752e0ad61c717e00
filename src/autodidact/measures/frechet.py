"""How far two sets of features are apart, by mean and covariance alone."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def frechet_distance(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]) -> float:
    r"""Fréchet distance of two normal distributions (FID, Heusel et al., 1706.08500, equation 6), in float64.

    .. math:: |\mu_a - \mu_b|^2 + tr( C_a + C_b - 2 (C_a C_b)^{1/2} )

    Parameters
    ----------
    a, b : features of two sets, rows are samples; n and m are 2 or more, and well above d for it to mean something.

    Returns
    -------
    In squared units of the features, 0 or more.

    Raises
    ------
    ValueError : fewer than 2 rows, or features of other sizes.
    """
    if min(len(a), len(b)) < 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"two sets of 2 or more features of one size are compared, got {a.shape} and {b.shape}")
    a, b = a.astype(np.float64), b.astype(np.float64)
    one, other = (np.cov(x, rowvar=False).reshape(a.shape[1], a.shape[1]) for x in (a, b))
    # The product of two covariances has real eigenvalues of 0 or more, but for rounding.
    shared = np.sqrt(np.linalg.eigvals(one @ other).real.clip(min=0)).sum()
    gap = np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
    return max(0.0, float(gap + np.trace(one) + np.trace(other) - 2 * shared))
