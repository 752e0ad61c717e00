"""Rewards of two answers in a row: the bonus for progress, and what a first answer is credited with."""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Tensor

Credit = Literal["instant", "return"]


def shaped(first: Float[Tensor, "q f"], second: Float[Tensor, "q f s"], alpha: float) -> Float[Tensor, "q f s"]:
    """Rewards of second answers with the bonus for progress: r2 + alpha (r2 - r1) (SCoRe, 2409.12917, section 5.2).

    Wrong then right earns alpha extra, right then wrong loses alpha, no change gets nothing beside r2. With alpha 0, as
    in the first stage, r1 has no part in it, and may be NaN: of an answer whose reward is not known.
    """
    if alpha == 0:
        return second
    return second + alpha * (second - first[..., None])


def credited(first: Float[Tensor, "q f"], second: Float[Tensor, "q f s"], credit: Credit) -> Float[Tensor, "q f"]:
    """What the tokens of first answers are weighed with.

    "instant": their own reward. "return": that and the mean (shaped) reward of what followed. With the bonus the
    coefficient of r1 is then 1 - alpha, so that above 1 a policy is paid for failing first.

    Parameters
    ----------
    second : as `shaped` gives them; NaN where there is none.
    """
    return first if credit == "instant" else first + second.nanmean(dim=2)
