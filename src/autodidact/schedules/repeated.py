"""Repeated cosine: every cycle warms up to the peak again and decays; what an infinite schedule is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from autodidact.schedules.ramps import cosine_ramp


@dataclass(frozen=True)
class RepeatedCosine:
    """Linear warm-up to 1 and half a cosine wave down to `final`, once in each cycle; by the number of steps done.

    Parameters
    ----------
    lengths : steps of each cycle, >= 1; after the last the final share holds.
    warmups : steps of warm-up of each cycle, shorter than it. Step s of w gets the (s + 1)-th of w + 1 equal parts of
        the way up: from 0 in the first cycle, from `final` in the others.
    final : share of the peak at the end of every cycle, in [0, 1].
    """

    lengths: tuple[int, ...]
    warmups: tuple[int, ...]
    final: float = 0.0

    def __post_init__(self) -> None:
        if not self.lengths or min(self.lengths) < 1:
            raise ValueError(f"lengths of cycles are at least 1 step, got {self.lengths}")
        if len(self.warmups) != len(self.lengths):
            raise ValueError(f"warmups must be as many as the {len(self.lengths)} cycles, got {len(self.warmups)}")
        if any(not 0 <= warm < length for warm, length in zip(self.warmups, self.lengths, strict=True)):
            raise ValueError(f"warmups are shorter than their cycles of {self.lengths} steps, got {self.warmups}")
        if not 0.0 <= self.final <= 1.0:
            raise ValueError(f"final is a share of the peak rate and must lie in [0, 1], got {self.final}")

    def __call__(self, step: int) -> float:
        """The multiplier for the step that follows `step` completed ones; in [0, 1]."""
        if step < 0:
            raise ValueError(f"a schedule counts steps from 0, got {step}")
        ends = list(accumulate(self.lengths))
        cycle = next((number for number, end in enumerate(ends) if step < end), None)
        if cycle is None:
            return self.final
        length, warmup = self.lengths[cycle], self.warmups[cycle]
        done = step - ends[cycle] + length
        if done < warmup:
            low = self.final if cycle else 0.0
            return low + (1 - low) * (done + 1) / (warmup + 1)
        return cosine_ramp(done - warmup, length - warmup, 1.0, self.final)
