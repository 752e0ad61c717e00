"""Estimators of a policy gradient: what is taken off the worth of an answer, and which answers then count."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

from jaxtyping import Bool, Float
from torch import Tensor

from autodidact.catalog import unknown
from autodidact.objectives import raml_weights, running_baseline
from autodidact.rollouts.advantages import advantages, of_siblings

Estimator = Literal["reinforce", "self_critical", "rloo", "grpo", "ppo", "raml"]
SIBLINGS = ("rloo", "grpo")
"""Those that compare the answers to one question with each other."""
PLAIN = ("reinforce", "self_critical", "rloo")
"""Those that only take something off the reward."""


class Estimated(NamedTuple):
    """Answers with their advantages.

    Attributes
    ----------
    advantages : of each answer, 0 where it does not count.
    used : which answers count.
    baseline : the running mean after these.
    """

    advantages: Float[Tensor, "g k"]
    used: Bool[Tensor, "g k"]
    baseline: float


def check_estimator(estimator: str, group: int, completions: int) -> None:
    """Raise ValueError for no such estimator, too few answers to a question, or one that cannot credit tokens."""
    if estimator not in get_args(Estimator):
        raise unknown("estimator", estimator, get_args(Estimator))
    least = 2 if estimator in SIBLINGS else 1
    if group < least:
        raise ValueError(f"'{estimator}' needs {least} or more answers to a question (group), got {group}")
    if completions < 0 or (completions and estimator not in PLAIN):
        raise ValueError(
            f"completions are 0 or more, and above 0 for {', '.join(PLAIN)} only; got {completions} for '{estimator}'"
        )


def estimated(
    worth: Float[Tensor, "g k"],
    estimator: Estimator,
    *,
    greedy: Float[Tensor, " g"] | None = None,
    baseline: float = 0.0,
    momentum: float = 0.9,
    std: bool = True,
    tau: float = 0.1,
) -> Estimated:
    """Advantages of the answers to each question.

    Parameters
    ----------
    worth : of k answers to each of g questions; NaN where there is none.
    greedy : of "self_critical": what the likeliest answer to each question is worth; NaN where it is worth nothing.
    baseline, momentum : of "reinforce": the running mean before these answers, and what stays of it.
    std : whether "grpo" divides by the spread.
    tau : of "raml", 0 or more.

    Raises
    ------
    ValueError : "self_critical" without what likeliest answers are worth.
    """
    if estimator == "rloo" or estimator == "grpo":
        return Estimated(*advantages(worth, of_siblings(estimator, std=std)), baseline)
    if estimator == "raml":
        return Estimated(*advantages(worth, lambda rewards: _shares(rewards, tau), least=1), baseline)
    if estimator == "self_critical":
        if greedy is None:
            raise ValueError("'self_critical' needs what the likeliest answer to each question is worth (greedy)")
        worth = worth - greedy.to(worth)[:, None]
    known = worth.isfinite()
    found = worth.nan_to_num()
    if estimator == "reinforce" and known.any():
        ahead, baseline = running_baseline(worth[known], baseline, momentum)
        found = found.masked_scatter(known, ahead)
    return Estimated(found, known, baseline)


def _shares(rewards: Float[Tensor, "g k"], tau: float) -> Float[Tensor, "g k"]:
    """Weights of a group with mean 1, proportional to exp(R / tau); with tau 0 of the best answers alone."""
    best = (rewards == rewards.amax(dim=1, keepdim=True)).to(rewards)
    shares = raml_weights(rewards, tau) if tau else best / best.sum(dim=1, keepdim=True)
    return shares * rewards.shape[1]
