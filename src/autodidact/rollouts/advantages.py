"""Advantages of drawn answers, prompt by prompt, where some have no reward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from autodidact.objectives.advantages import group_normalised, rloo

Baseline = Literal["rloo", "grpo"]
Grouped = Callable[[Float[Tensor, "g k"]], Float[Tensor, "g k"]]


def advantages(
    rewards: Float[Tensor, "g k"], of_group: Grouped, *, least: int = 2
) -> tuple[Float[Tensor, "g k"], Bool[Tensor, "g k"]]:
    """Advantages from a function of whole groups, over those answers of each group that have a reward.

    Parameters
    ----------
    rewards : of k answers to each of g prompts; NaN where there is none.
    of_group : such as `objectives.rloo`, which needs `least` answers; `raml_weights` does with 1.
    least : a group with fewer rewards is left out as a whole, for want of something to compare with.

    Returns
    -------
    The advantages, 0 where there is none; and which answers have one.
    """
    known = rewards.isfinite()
    counts = known.sum(dim=1)
    found = torch.zeros_like(rewards)
    used = known & (counts >= least)[:, None]
    for count in counts[counts >= least].unique().tolist():
        rows = counts == count
        part = of_group(rewards[rows][known[rows]].reshape(-1, count))
        found[rows] = torch.zeros_like(rewards[rows]).masked_scatter(known[rows], part.to(rewards.dtype))
    return found, used


def of_siblings(baseline: Baseline, *, std: bool = True) -> Grouped:
    """RLOO, or GRPO with or without dividing by the spread, as a function of whole groups."""
    return rloo if baseline == "rloo" else lambda rewards: group_normalised(rewards, std=std)
