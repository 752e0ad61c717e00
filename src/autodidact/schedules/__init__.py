"""Schedules: pure functions of the steps done."""

from autodidact.schedules.infinite import Infinite
from autodidact.schedules.multiplier import COURSES, Schedule, schedule
from autodidact.schedules.plan import SCHEDULES, Course, Plan
from autodidact.schedules.ramps import cosine_ramp, linear_ramp
from autodidact.schedules.repeated import RepeatedCosine

__all__ = [
    "COURSES",
    "SCHEDULES",
    "Course",
    "Infinite",
    "Plan",
    "RepeatedCosine",
    "Schedule",
    "cosine_ramp",
    "linear_ramp",
    "schedule",
]
