"""From which score on an answer is given: thresholds for a coverage, or for a risk."""

from __future__ import annotations

import numpy as np
from jaxtyping import Shaped


def coverage_threshold(scores: Shaped[np.ndarray, " n"], coverage: float) -> float:
    """The highest score t such that at least that share of the scores is t or more.

    Parameters
    ----------
    coverage : in (0, 1].

    Raises
    ------
    ValueError : no scores, NaN, a coverage outside (0, 1].
    """
    found = _checked(scores)
    if not 0 < coverage <= 1:
        raise ValueError(f"coverage must be in (0, 1], got {coverage}")
    # Rounding must not ask for one more than the share says.
    return float(np.sort(found)[::-1][int(np.ceil(round(coverage * len(found), 9))) - 1])


def risk_threshold(
    scores: Shaped[np.ndarray, " n"], wrong: Shaped[np.ndarray, " m"], risk: float, *, confidence: float = 0.0
) -> float:
    """The lowest score t such that of the answers with t or more no greater share than `risk` is wrong.

    Answers of one score are given together. With a confidence it is the one-sided Clopper-Pearson bound of that share
    that must not exceed the risk, for which a threshold is looked for by bisection: with that probability over the draw
    of the scores the true risk is met (Geifman and El-Yaniv, 1705.08500, algorithm 2).

    Parameters
    ----------
    wrong : whether each answer was.
    risk : in [0, 1].
    confidence : in [0, 1); 0 takes the share as it is.

    Returns
    -------
    Infinity where no threshold meets the risk.

    Raises
    ------
    ValueError : no scores, NaN, lengths that differ, a risk or confidence outside its range.
    """
    from scipy.stats import beta

    found, wrong = _checked(scores), np.asarray(wrong, dtype=np.float64)
    if wrong.shape != found.shape or np.isnan(wrong).any():
        raise ValueError(f"risk_threshold needs one outcome a score, got {found.shape} and {wrong.shape}")
    if not 0 <= risk <= 1 or not 0 <= confidence < 1:
        raise ValueError(f"risk must be in [0, 1] and confidence in [0, 1), got {risk} and {confidence}")
    order = np.argsort(-found, kind="stable")
    ordered = found[order]
    answered, errors = np.arange(1, len(found) + 1), np.cumsum(wrong[order])
    last = np.append(ordered[1:] != ordered[:-1], True)
    thresholds, answered, errors = ordered[last], answered[last], errors[last]
    if confidence == 0:
        met = np.flatnonzero(errors / answered <= risk)
        return float(thresholds[met[-1]]) if len(met) else float("inf")
    # As many bounds as the bisection looks at share the error that they may make together.
    level = 1 - (1 - confidence) / max(1, len(thresholds).bit_length())
    meets, fails = -1, len(thresholds)
    while meets + 1 < fails:
        middle = (meets + fails) // 2
        right = answered[middle] - errors[middle]
        bound = beta.ppf(level, errors[middle] + 1, right) if right > 0 else 1.0
        meets, fails = (middle, fails) if bound <= risk else (meets, middle)
    return float(thresholds[meets]) if meets >= 0 else float("inf")


def _checked(scores: np.ndarray) -> np.ndarray:
    found = np.asarray(scores, dtype=np.float64)
    if found.ndim != 1 or len(found) == 0 or np.isnan(found).any():
        raise ValueError(f"a threshold needs scores, one or more and none of them NaN; got {found.shape}")
    return found
