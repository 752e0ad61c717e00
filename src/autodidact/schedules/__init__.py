"""Schedules: pure functions of (step, total)."""

from autodidact.schedules.multiplier import SCHEDULES, Schedule, schedule
from autodidact.schedules.ramps import cosine_ramp, linear_ramp

__all__ = ["SCHEDULES", "Schedule", "cosine_ramp", "linear_ramp", "schedule"]
