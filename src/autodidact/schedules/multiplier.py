"""Learning-rate schedules as multipliers of the base rate: functions of (step, total), with no state of their own."""

from __future__ import annotations

from dataclasses import dataclass

from autodidact.catalog.nearest import unknown
from autodidact.schedules.ramps import cosine_ramp, fraction, linear_ramp

COURSES = ("cosine", "linear", "constant")


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up to 1, then one of three courses.

    Parameters
    ----------
    name : "cosine", "constant" or "linear"
        How the multiplier goes from 1 to `final` after the warm-up; "constant" stays at 1.
    warmup_steps : int
        Steps of warm-up, >= 0. Step s of w warm-up steps gets (s + 1) / (w + 1): never 0, and 1 right after.
    final : float
        Multiplier at the end of the run, in [0, 1]. Unused by "constant", where anything but 0 is refused.

    Raises
    ------
    ValueError
        On construction: an unknown name, a negative warm-up, a `final` outside [0, 1]. On call: a warm-up longer than
        the run.
    """

    name: str = "cosine"
    warmup_steps: int = 0
    final: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in COURSES:
            raise unknown("schedule", self.name, COURSES)
        if self.warmup_steps < 0:
            raise ValueError(f"warmup_steps must be >= 0, got {self.warmup_steps}")
        if not 0.0 <= self.final <= 1.0:
            raise ValueError(f"final is a share of the base rate and must lie in [0, 1], got {self.final}")
        if self.name == "constant" and self.final != 0.0:
            raise ValueError(f"a constant schedule stays at the base rate, so final={self.final} cannot be met")

    def __call__(self, step: int, total: int) -> float:
        """The multiplier for the step that follows `step` completed ones, of `total`; in [0, 1]."""
        if self.warmup_steps > total:
            raise ValueError(f"a warm-up of {self.warmup_steps} steps is longer than the run of {total} steps")
        fraction(step, total)
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        if self.name == "constant":
            return 1.0
        if step >= total:
            return self.final
        course = cosine_ramp if self.name == "cosine" else linear_ramp
        return course(step - self.warmup_steps, total - self.warmup_steps, 1.0, self.final)


def schedule(name: str = "cosine", warmup_steps: int = 0, final: float = 0.0) -> Schedule:
    """The learning-rate multiplier f(step, total) by name; see `Schedule`."""
    return Schedule(name, warmup_steps, final)
