"""A plan names a schedule in shares of a budget, and gives the course of a training, of a stream, or of a branch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, pairwise

from autodidact.catalog.nearest import unknown
from autodidact.schedules.infinite import SHAPES, Infinite, Shape
from autodidact.schedules.multiplier import COURSES, Schedule
from autodidact.schedules.repeated import RepeatedCosine

Course = Callable[[int], float]
"""From the number of steps done to the multiplier of the peak rate for the next one."""

SCHEDULES = (*COURSES, "repeated_cosine", "wsd", "infinite")
OWN: dict[str, tuple[str, ...]] = {
    "final": ("cosine", "linear", "repeated_cosine", "wsd", "infinite"),
    "cycles": ("repeated_cosine",),
    "anneal": ("wsd", "infinite"),
    "const_ratio": ("infinite",),
    "cooldown": ("infinite",),
    "cooldown_shape": ("infinite",),
}
"""Options of a plan -> the schedules that have them."""


@dataclass(frozen=True)
class Plan:
    """A schedule in shares of the updates. Options that the schedule does not have are refused.

    Parameters
    ----------
    name : "cosine", "linear", "constant"; "repeated_cosine", with `cycles` of warm-up and decay; "wsd", constant until
        it is annealed; "infinite", which cools down to a constant share until it is annealed.
    warmup : share of the updates (of the first budget of a stream, or of every cycle), in [0, 1).
    final : rate at the end as a share of the peak. Default 0; 0.01 of "wsd" and "infinite", which need some.
    cycles : of "repeated_cosine", >= 1. Default 1; of a stream one for each of its budgets.
    anneal : share of the updates at the end (of each budget of a stream) that anneal, in [0, 1). Default 0.15.
    const_ratio : constant rate of "infinite" as a share of the peak. Default 0.25.
    cooldown : share of the updates (of the first budget) after the warm-up that cool down, in [0, 1). Default 0.5.
    cooldown_shape : "cosine" or "inverse_sqrt". Default "cosine".
    """

    name: str = "cosine"
    warmup: float = 0.05
    final: float | None = None
    cycles: int | None = None
    anneal: float | None = None
    const_ratio: float | None = None
    cooldown: float | None = None
    cooldown_shape: Shape | None = None

    def __post_init__(self) -> None:
        if self.name not in SCHEDULES:
            raise unknown("schedule", self.name, SCHEDULES)
        for option, names in OWN.items():
            if getattr(self, option) is not None and self.name not in names:
                raise ValueError(f"{option} belongs to the schedule {' or '.join(names)}, not to {self.name}")
        for option in ("warmup", "anneal", "cooldown"):
            value = getattr(self, option)
            if value is not None and not 0 <= value < 1:
                raise ValueError(f"{option} is a share of the updates in [0, 1), got {value}")
        if self.cycles is not None and self.cycles < 1:
            raise ValueError(f"cycles must be at least 1, got {self.cycles}")
        if self.cooldown_shape is not None and self.cooldown_shape not in SHAPES:
            raise unknown("cooldown_shape", self.cooldown_shape, SHAPES)
        shares = {"warmup": self.warmup, "cooldown": self._cooldown, "anneal": self._anneal}
        if sum(shares.values()) > 1:
            told = " + ".join(f"{option} {share:g}" for option, share in shares.items())
            raise ValueError(f"anneal must not begin before the cool-down ends: {told} is more than all updates")
        # A ratio out of range is refused by the schedule itself.
        self._infinite(1000) if self._anneals else Schedule(final=self._final)

    def course(self, total: int) -> Course:
        """Of one training of `total` steps, which ends annealed where the schedule anneals."""
        if self._anneals:
            return self.annealed([total], 0)
        return self.trunk(self._cut(total) if self.name == "repeated_cosine" else [total])

    def steps(self, budgets: Sequence[int]) -> list[int]:
        """How many steps of each budget belong to the trunk; the others are for its annealed branch."""
        return [budget - self._annealing(budget) for budget in budgets]

    def trunk(self, budgets: Sequence[int]) -> Course:
        """Of a stream of data with these budgets, steps counted once over all of it and branches left out."""
        if not budgets or min(budgets) < 1:
            raise ValueError(f"every budget is at least 1 step, got {list(budgets)}")
        if self._anneals:
            return self._infinite(budgets[0])
        if self.name == "repeated_cosine":
            return RepeatedCosine(tuple(budgets), tuple(self._warm(budget) for budget in budgets), self._final)
        total = sum(budgets)
        final = 0.0 if self.name == "constant" else self._final
        return partial(_bound, Schedule(self.name, self._warm(budgets[0]), final), total)

    def annealed(self, budgets: Sequence[int], number: int) -> Course:
        """Of the branch that anneals what the trunk is after the budget of this number, from 0.

        Raises
        ------
        ValueError : the schedule has no branches.
        """
        course = self.trunk(budgets)
        if not isinstance(course, Infinite):
            raise ValueError(f"the schedule {self.name} has no annealed branches; wsd and infinite have")
        start = list(accumulate(self.steps(budgets)))[number]
        return replace(course, anneal_from=start, anneal_steps=self._annealing(budgets[number]))

    @property
    def _anneals(self) -> bool:
        return self.name in OWN["anneal"]

    @property
    def _final(self) -> float:
        return self.final if self.final is not None else 0.01 if self._anneals else 0.0

    @property
    def _anneal(self) -> float:
        return 0.0 if not self._anneals else 0.15 if self.anneal is None else self.anneal

    @property
    def _cooldown(self) -> float:
        return 0.0 if self.name != "infinite" else 0.5 if self.cooldown is None else self.cooldown

    def _warm(self, budget: int) -> int:
        return min(budget - 1, round(self.warmup * budget))

    def _annealing(self, budget: int) -> int:
        """Rounded shares may add up to more than the budget: what anneals gives way, and leaves a step to cool down."""
        room = budget - self._warm(budget) - bool(self._cooldown)
        return max(0, min(room, budget - 1, round(self._anneal * budget)))

    def _infinite(self, budget: int) -> Infinite:
        if self.name == "wsd":
            return Infinite(self._warm(budget), final=self._final)
        room = budget - self._warm(budget) - self._annealing(budget)
        return Infinite(
            self._warm(budget),
            max(1, min(room, round(self._cooldown * budget))) if self._cooldown else 0,
            0.25 if self.const_ratio is None else self.const_ratio,
            self._final,
            self.cooldown_shape or "cosine",
        )

    def _cut(self, total: int) -> list[int]:
        """Cycles of about equal length."""
        cycles = self.cycles or 1
        if cycles > total:
            raise ValueError(f"{cycles} cycles need as many updates; there are {total}")
        edges = [round(number * total / cycles) for number in range(cycles + 1)]
        return [end - begin for begin, end in pairwise(edges)]


def _bound(schedule: Schedule, total: int, step: int) -> float:
    return schedule(step, total)
