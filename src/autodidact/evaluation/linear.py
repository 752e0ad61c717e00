"""Linear probe: logistic regression on frozen embeddings."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, StratifiedShuffleSplit
from threadpoolctl import threadpool_limits

from autodidact.evaluation.frozen import Frozen, Scaler

DECAYS = (1e1, 1e0, 1e-1, 1e-2, 1e-3, 1e-4)
UNCHOSEN = 1e-1
FOLDS = 5
MANY = 5_000
ROUNDS = 200
SMALL = 10**8
"""Multiplications in a product of rows and weights below which threads wait longer for each other than they work."""


@dataclass(frozen=True)
class Probe:
    """A linear classifier of raw (not standardised) embeddings.

    Attributes
    ----------
    weight, bias : logits are ``x @ weight.T + bias``; rows of classes that had no label are 0.
    present : classes that had labels, the only ones that are ever predicted.
    decay : the L2 strength that was chosen.
    """

    weight: Float64[np.ndarray, "classes d"]
    bias: Float64[np.ndarray, " classes"]
    present: Int64[np.ndarray, " p"]
    decay: float

    def predict(self, rows: Float32[np.ndarray, "m d"]) -> Int64[np.ndarray, " m"]:
        """The most likely class of every row."""
        return self.present[self._logits(rows).argmax(1)]

    def ranked(self, rows: Float32[np.ndarray, "m d"], count: int) -> Int64[np.ndarray, "m k"]:
        """So many classes of every row (or all that had labels), the most likely first."""
        return self.present[np.argsort(-self._logits(rows), axis=1, kind="stable")[:, :count]]

    def named(
        self, rows: Float32[np.ndarray, "m d"], count: int
    ) -> tuple[Int64[np.ndarray, "m k"], Float64[np.ndarray, "m k"]]:
        """So many classes of every row, the most likely first, and their probabilities among those that had labels."""
        logits = self._logits(rows)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        order = np.argsort(-logits, axis=1, kind="stable")[:, :count]
        return self.present[order], np.take_along_axis(odds / odds.sum(axis=1, keepdims=True), order, axis=1)

    def _logits(self, rows: Float32[np.ndarray, "m d"]) -> Float64[np.ndarray, "m p"]:
        return rows @ self.weight[self.present].T + self.bias[self.present]


def linear(frozen: Frozen) -> Int64[np.ndarray, " m"]:
    """Classes of the test rows by `fit_probe`."""
    return fit_probe(frozen).predict(frozen.test)


def fit_probe(frozen: Frozen, decays: Sequence[float] = DECAYS) -> Probe:
    """Multinomial logistic regression on standardised embeddings.

    Minimises the mean cross-entropy of the labelled rows + ``decay / 2 * ||weight||^2``. The decay is the candidate
    with the best cross-validated log-likelihood **among the labelled rows**: 5 folds, or as many as the rarest class
    has rows; one split of 80 to 20 beyond 5,000 labelled rows. Where a class has a single row nothing can be held out
    and the decay is 0.1.

    Parameters
    ----------
    frozen : the draw.
    decays : candidates; relative to the mean loss, so they mean the same for every number of rows.

    Raises
    ------
    ValueError : the labelled rows hold one class only.
    """
    present, answers = np.unique(frozen.answers.astype(np.int64), return_inverse=True)
    if len(present) < 2:
        raise ValueError(f"a linear probe needs labels of two classes; all {len(answers)} labels are alike")
    scaler = Scaler.of(frozen)
    rows, basis = _in_own_span(scaler(frozen.labelled))
    with threadpool_limits(1 if rows.size * len(present) < SMALL else None, user_api="blas"):
        decay = _choose(rows, answers, sorted(decays, reverse=True), frozen.seed)
        *_, (coefficients, intercept) = _path(rows, answers, [decay])
    weight = np.zeros((frozen.classes, frozen.labelled.shape[1]))
    bias = np.zeros(frozen.classes)
    weight[present] = (coefficients if basis is None else coefficients @ basis) * scaler.scale
    bias[present] = intercept - weight[present] @ scaler.mean
    return Probe(weight, bias, present, decay)


def _in_own_span(
    rows: Float32[np.ndarray, "n d"],
) -> tuple[Float32[np.ndarray, "n r"], Float32[np.ndarray, "r d"] | None]:
    """The rows in an orthonormal basis of their span, and that basis; the rows themselves where n >= d.

    The solution of an L2-regularised problem lies in the span of the rows, so with 20 rows of 512 dimensions the same
    problem has 20 dimensions.
    """
    if len(rows) >= rows.shape[1]:
        return rows, None
    u, s, basis = np.linalg.svd(rows, full_matrices=False)
    return u * s, basis


def _choose(
    rows: Float32[np.ndarray, "n r"], answers: Int64[np.ndarray, " n"], decays: list[float], seed: int
) -> float:
    if len(decays) == 1:
        return decays[0]
    rarest = int(np.bincount(answers).min())
    if rarest < 2:
        return UNCHOSEN
    splitter = (
        StratifiedShuffleSplit(1, test_size=0.2, random_state=seed)
        if len(rows) > MANY
        else StratifiedKFold(min(FOLDS, rarest), shuffle=True, random_state=seed)
    )
    likelihood = np.zeros(len(decays))
    for fit, held in splitter.split(rows, answers):
        for i, (coefficients, intercept) in enumerate(_path(rows[fit], answers[fit], decays)):
            logits = rows[held].astype(np.float64) @ coefficients.T + intercept
            peak = logits.max(1, keepdims=True)
            log_sum = peak[:, 0] + np.log(np.exp(logits - peak).sum(1))
            likelihood[i] += (logits[np.arange(len(held)), answers[held]] - log_sum).sum()
    return decays[int(likelihood.argmax())]


def _path(
    rows: Float32[np.ndarray, "n r"], answers: Int64[np.ndarray, " n"], decays: Sequence[float]
) -> Iterator[tuple[Float64[np.ndarray, "p r"], Float64[np.ndarray, " p"]]]:
    """Coefficients and intercepts for each decay, each fit started from the one before."""
    model = LogisticRegression(max_iter=ROUNDS, tol=1e-4, warm_start=True)
    for decay in decays:
        model.set_params(C=1.0 / (decay * len(rows)))
        with warnings.catch_warnings():
            # A weakly regularised fit that is stopped early is a candidate like any other.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(rows, answers)
        coefficients, intercept = model.coef_.astype(np.float64), model.intercept_.astype(np.float64)
        if len(coefficients) == 1:
            # scikit-learn keeps one row for two classes: the logit of the second against the first.
            coefficients = np.concatenate([-coefficients, coefficients]) / 2
            intercept = np.concatenate([-intercept, intercept]) / 2
        yield coefficients, intercept
