"""Average and forgetting of a model that learns from one data set after another."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple


class Retention(NamedTuple):
    """What a model is worth at the end of a stream.

    Attributes
    ----------
    average : mean over all data sets, after the last.
    forgetting : mean over the earlier ones of how much worse than at its best each is at the end, >= 0; 0 of one alone.
    """

    average: float
    forgetting: float


def retention(scores: Sequence[Sequence[float]], *, higher_is_better: bool = True) -> Retention:
    """Average and forgetting from scores[t][i], that of data set i after data set t, i <= t::

        average    = mean_i a_{T,i}
        forgetting = mean_{i<T} ( max_{t<=T} a_{t,i} - a_{T,i} )

    Parameters
    ----------
    scores : row t has t + 1 entries.
    higher_is_better : of accuracies; of losses it is the least that is the best.

    Raises
    ------
    ValueError : no rows, or a row of another length.
    """
    if not scores or any(len(row) != number for number, row in enumerate(scores, start=1)):
        raise ValueError(f"row t holds a score of each of t data sets, got rows of {[len(row) for row in scores]}")
    sign = 1 if higher_is_better else -1
    last = scores[-1]
    lost = [max(sign * row[i] for row in scores[i:]) - sign * last[i] for i in range(len(last) - 1)]
    return Retention(fmean(last), fmean(lost) if lost else 0.0)
