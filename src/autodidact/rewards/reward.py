"""The interface of a reward: answers in, a number each out, or the reason why there is none."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from autodidact.lm.reward_model import RewardModel


@dataclass(frozen=True)
class Answered:
    """A question with one answer to it.

    Attributes
    ----------
    input : of the task.
    prompt : all that the model read.
    answer : what it wrote, without spaces around it; may be empty.
    wanted : the output that the task has for the input; None where it has none.
    """

    input: str
    prompt: str
    answer: str
    wanted: str | None = None


@dataclass(frozen=True)
class Unrewarded:
    """Stands for a reward that nobody knows: the answer is left out, which is not the same as a reward of 0."""

    why: str


@dataclass(frozen=True)
class Lessons:
    """How a reward learns from the answers of the policy that learns from it.

    Attributes
    ----------
    every : updates of the policy from one time it learns to the next, from 1.
    rounds : sets of answers that are drawn anew each time, from 1.
    passes : descents on each of these sets, from 1.
    alone : updates at the start of the training in which it alone learns and the policy stays as it is, 0 or more.
    rate : its learning rate as a multiple of the run's, above 0.

    Raises
    ------
    ValueError : a number out of its range.
    """

    every: int = 1
    rounds: int = 1
    passes: int = 3
    alone: int = 0
    rate: float = 10.0

    def __post_init__(self) -> None:
        if min(self.every, self.rounds, self.passes) < 1 or self.alone < 0 or not self.rate > 0:
            raise ValueError(
                "a reward that learns has every, rounds and passes of 1 or more, alone of 0 or more and a rate above "
                f"0; got {self.every}, {self.rounds}, {self.passes}, {self.alone} and {self.rate}"
            )

    def due(self, step: int) -> bool:
        """Whether it learns before the policy's update of this number, from 0."""
        return step < self.alone or (step - self.alone) % self.every == 0


class Reward(nn.Module, ABC):
    """Says how good answers are, in units of its own; more is better.

    It is a module so that what it remembers of earlier answers (as a buffer), and what it learns from them (as
    parameters), is part of checkpoints.

    Attributes
    ----------
    needs_wanted : whether it can judge only answers to inputs whose output is known.
    """

    needs_wanted: ClassVar[bool] = False

    @abstractmethod
    def judge(self, answers: Sequence[Answered]) -> Sequence[float | Unrewarded]:
        """The reward of each answer, in their order. Without gradient."""

    @property
    def learners(self) -> list[Learner]:
        """Those of it and its parts that learn, in order."""
        return [part for part in self.modules() if isinstance(part, Learner)]

    @property
    def model(self) -> RewardModel | None:
        """The reward model that it asks itself, not one of its parts; None where it asks none."""
        return None

    @property
    def wants_outputs(self) -> bool:
        """Whether it, or a part of it, `needs_wanted`."""
        return any(isinstance(part, Reward) and part.needs_wanted for part in self.modules())


def rewarded(reward: Reward, answers: Sequence[Answered]) -> tuple[Float64[np.ndarray, " n"], Counter[str]]:
    """The rewards of answers, NaN where there is none; and how many there are not, by reason.

    Raises
    ------
    ValueError : a reward gave another number of values than answers.
    """
    judged = reward.judge(answers)
    if len(judged) != len(answers):
        raise ValueError(f"{type(reward).__name__} gave {len(judged)} rewards for {len(answers)} answers")
    reasons = Counter[str]()
    found = np.full(len(answers), math.nan)
    for place, one in enumerate(judged):
        if isinstance(one, Unrewarded):
            reasons[one.why] += 1
        elif not math.isfinite(one):
            reasons["the reward is no finite number"] += 1
        else:
            found[place] = one
    return found, reasons


class Learner(Reward):
    """A reward that learns while the policy does.

    What trains the policy draws answers, and descends `learning` of them as often as the lessons say, on the reward's
    parameters alone.

    Attributes
    ----------
    lessons : when it learns, and how fast.
    """

    lessons: Lessons

    @abstractmethod
    def learning(self, answers: Sequence[Answered], generator: torch.Generator) -> Float[Tensor, ""]:
        """What it descends, given answers that the policy drew just now.

        Parameters
        ----------
        generator : on the CPU, of whatever it draws itself.
        """


class Weighted(Reward):
    """A weighted sum of rewards; unknown where one of them is.

    Parameters
    ----------
    parts : rewards with their weights, which may be negative.
    """

    def __init__(self, parts: Sequence[tuple[float, Reward]]) -> None:
        super().__init__()
        self.weights = tuple(weight for weight, _ in parts)
        self.parts = nn.ModuleList(part for _, part in parts)

    def judge(self, answers: Sequence[Answered]) -> list[float | Unrewarded]:
        columns = [part.judge(answers) for part in self.parts if isinstance(part, Reward)]
        return [self._sum(row) for row in zip(*columns, strict=True)]

    def _sum(self, row: Sequence[float | Unrewarded]) -> float | Unrewarded:
        known = [one for one in row if not isinstance(one, Unrewarded)]
        if len(known) < len(row):
            return next(one for one in row if isinstance(one, Unrewarded))
        return math.fsum(weight * one for weight, one in zip(self.weights, known, strict=True))
