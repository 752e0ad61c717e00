"""The infinite learning-rate schedule: no end is needed, and an annealed model is a branch, not the end."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from autodidact.catalog import Card
from autodidact.catalog.nearest import unknown
from autodidact.schedules.ramps import cosine_ramp

CARD = Card(
    name="infinite_lr",
    target="Infinite",
    kind="schedule",
    number=16,
    title="Infinite learning-rate schedule",
    paper="Singh, Janson, Mehrbod, Ibrahim, Rish, Belilovsky, Therien: Beyond Cosine Decay, On the Effectiveness of "
    "Infinite Learning Rate Schedule for Continual Pre-training (2503.02844, 2025)",
    summary="A rate that is constant for as long as data arrive, with annealed models as branches; for every method.",
    abilities=(),
    arguments=("const_ratio", "cooldown_steps", "shape"),
    claim="infinite_lr",
)

Shape = Literal["cosine", "inverse_sqrt"]
SHAPES: tuple[Shape, ...] = ("cosine", "inverse_sqrt")


@dataclass(frozen=True)
class Infinite:
    r"""Infinite schedule (arXiv 2503.02844, section 3), as a multiplier of the peak rate by the number of steps done.

    With N_w and N_c steps of warm-up and cool-down, N_cd = N_w + N_c, and annealing that begins at N_d::

        n / N_w                                                           n < N_w
        const + (1 - const) (1 + cos(pi (n - N_w) / N_c)) / 2             n < N_cd
        const                                                             n < N_d
        const (final / const)^((n - N_d) / T_a), then final

    n is counted once over all data, and nothing warms up again when other data come. The annealing belongs to a branch:
    it begins from a state that is kept, and the next data start from that state. `const_ratio` 1 and no cool-down are
    warm-up, stable, decay (WSD). The exponent of the annealing is sometimes quoted with the absolute step; here T_a is
    a length. Use it with any method as ``--schedule infinite``; the recipe ``continual`` makes the branches.

    Parameters
    ----------
    warmup_steps : N_w, >= 0.
    cooldown_steps : N_c, >= 0; 0 only together with a `const_ratio` of 1, or the rate would jump.
    const_ratio : constant rate as a share of the peak, in (0, 1]. Re-implementations of the paper: 0.25.
    final : rate at the end of an annealing as a share of the peak, in (0, const_ratio].
    shape : of the cool-down: "cosine" (paper) or "inverse_sqrt", const = 1 + (const - 1) h(s) / h(1) with
        h(s) = (1 + alpha s)^(-1/2) - 1 (Ibrahim et al., 2403.08763).
    alpha : of "inverse_sqrt", > 0.
    anneal_from : N_d, at least N_cd; none for a schedule without an end.
    anneal_steps : T_a, >= 0; with 0 nothing is annealed, for the rate does not jump.
    """

    warmup_steps: int = 0
    cooldown_steps: int = 0
    const_ratio: float = 1.0
    final: float = 0.01
    shape: Shape = "cosine"
    alpha: float = 10.0
    anneal_from: int | None = None
    anneal_steps: int = 0

    def __post_init__(self) -> None:
        for name in ("warmup_steps", "cooldown_steps", "anneal_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if not 0 < self.const_ratio <= 1:
            raise ValueError(f"const_ratio is a share of the peak rate in (0, 1], got {self.const_ratio}")
        if not 0 < self.final <= self.const_ratio:
            raise ValueError(
                f"final is a share of the peak rate in (0, const_ratio], got {self.final} with const_ratio "
                f"{self.const_ratio}: an exponential never reaches 0, and an annealing does not rise"
            )
        if self.cooldown_steps == 0 and self.const_ratio < 1:
            raise ValueError(
                f"cooldown_steps of 0 would let the rate jump to const_ratio {self.const_ratio}; give some, or a "
                "const_ratio of 1"
            )
        if self.shape not in SHAPES:
            raise unknown("shape of the cool-down", self.shape, SHAPES)
        if not self.alpha > 0:
            raise ValueError(f"alpha must be positive, got {self.alpha}")
        if self.anneal_from is not None and self.anneal_from < self.cool:
            raise ValueError(
                f"anneal_from must not lie before the end of the cool-down at step {self.cool}, got {self.anneal_from}"
            )

    @property
    def cool(self) -> int:
        """N_cd, the step from which the rate is constant."""
        return self.warmup_steps + self.cooldown_steps

    def __call__(self, step: int) -> float:
        """The multiplier for the step that follows `step` completed ones; in [0, 1]."""
        if step < 0:
            raise ValueError(f"a schedule counts steps from 0, got {step}")
        if step < self.warmup_steps:
            return step / self.warmup_steps
        if step < self.cool:
            return self._cooling(step - self.warmup_steps)
        if self.anneal_from is None or step < self.anneal_from or not self.anneal_steps:
            return self.const_ratio
        done = step - self.anneal_from
        if done >= self.anneal_steps:
            return self.final
        return self.const_ratio * (self.final / self.const_ratio) ** (done / self.anneal_steps)

    def _cooling(self, done: int) -> float:
        if self.shape == "cosine":
            return cosine_ramp(done, self.cooldown_steps, 1.0, self.const_ratio)
        fallen = _inverse_sqrt(self.alpha * done / self.cooldown_steps) / _inverse_sqrt(self.alpha)
        return 1.0 + (self.const_ratio - 1.0) * fallen


def _inverse_sqrt(x: float) -> float:
    return 1 / math.sqrt(1 + x) - 1
