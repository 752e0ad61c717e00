"""Regression probe: ridge on frozen embeddings."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64
from sklearn.linear_model import RidgeCV

from autodidact.evaluation.frozen import Frozen, Scaler

ALPHAS = tuple(float(alpha) for alpha in np.logspace(-4, 5, 19))


def regress(frozen: Frozen) -> Float64[np.ndarray, " m"]:
    """Targets of the test rows by ridge regression on standardised embeddings.

    The penalty is the one of 19 (1e-4 to 1e5) with the least leave-one-out error **among the labelled rows**, which
    ridge has in closed form.
    """
    scaler = Scaler.of(frozen)
    answers = frozen.answers.astype(np.float64)
    model = RidgeCV(alphas=ALPHAS).fit(scaler(frozen.labelled).astype(np.float64), answers)
    return model.predict(scaler(frozen.test).astype(np.float64))
