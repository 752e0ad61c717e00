"""Values that move from one number to another over a run: teacher momentum, weight decay, loss weights."""

from __future__ import annotations

import math


def linear_ramp(step: int, total: int, start: float, end: float) -> float:
    """start + (end - start) * step / total.

    Parameters
    ----------
    step : int
        Steps already taken, >= 0. From `total` on the value stays at `end`.
    total : int
        Steps of the whole run, >= 1.
    start, end : float
        Values at step 0 and at step `total`. T-JEPA's momentum: 0.996 to 1.0.
    """
    return start + (end - start) * fraction(step, total)


def cosine_ramp(step: int, total: int, start: float, end: float) -> float:
    """end - (end - start) * (cos(pi * step / total) + 1) / 2: flat at both ends, half way at half time.

    As for BYOL's and DINO's momentum (0.996 to 1.0) and weight decay (0.04 to 0.4). Arguments as in `linear_ramp`.
    """
    return end - (end - start) * (math.cos(math.pi * fraction(step, total)) + 1) / 2


def fraction(step: int, total: int) -> float:
    """step / total, held at 1 afterwards."""
    if total < 1:
        raise ValueError(f"a schedule needs a total of at least 1 step, got {total}")
    if step < 0:
        raise ValueError(f"a schedule counts steps from 0, got {step}")
    return min(step / total, 1.0)
