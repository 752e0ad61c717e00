"""Intervals over seeds: what a handful of runs says about a mean or a difference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class Interval(NamedTuple):
    """A mean with the ends of its confidence interval."""

    mean: float
    low: float
    high: float


def mean_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Mean of independent runs with its Student-t interval, n - 1 degrees of freedom.

    Parameters
    ----------
    values : sequence of at least 2 finite numbers
    level : float
        Coverage, in (0, 1).

    Raises
    ------
    ValueError
        Fewer than 2 values, values that are not finite, a level outside (0, 1).
    """
    from scipy.special import stdtrit

    if len(values) < 2:
        raise ValueError(f"an interval needs at least 2 values, got {len(values)}")
    if not all(math.isfinite(value) for value in values):
        raise ValueError(f"an interval needs finite values, got {list(values)}")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    n = len(values)
    mean = math.fsum(values) / n
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1) / n)
    reach = float(stdtrit(n - 1, (1 + level) / 2)) * spread
    return Interval(mean, mean - reach, mean + reach)


def paired_interval(a: Sequence[float], b: Sequence[float], level: float = 0.95) -> Interval:
    """Mean of a - b over seeds, with its Student-t interval; pair i of both is of one seed.

    Raises
    ------
    ValueError
        Lengths that differ, or as in `mean_interval`.
    """
    if len(a) != len(b):
        raise ValueError(f"paired values must match seed by seed, got {len(a)} and {len(b)}")
    return mean_interval([x - y for x, y in zip(a, b, strict=True)], level)
