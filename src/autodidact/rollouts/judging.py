"""What drawn answers are worth: rewards, the penalty for not coming to an end, the price of leaving the reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from autodidact.lm.lm import Prompt
from autodidact.lm.task import Task
from autodidact.rewards import Answered, Reward, rewarded
from autodidact.rollouts.policy import Drawn


@dataclass(frozen=True)
class Question:
    """An input of a task.

    Attributes
    ----------
    input : as the task has it.
    prompt : as a model reads it.
    wanted : its output; None where the task has none.
    """

    input: str
    prompt: str
    wanted: str | None = None

    @classmethod
    def of(cls, task: Task, inputs: Sequence[str]) -> list[Question]:
        """The questions of some inputs of a task."""
        wanted = {one.input: one.output for one in task.examples}
        return [cls(text, task.prompt(text), wanted.get(text)) for text in inputs]

    @property
    def asked(self) -> Prompt | str:
        """What a policy reads before it writes."""
        return self.prompt

    def answered(self, text: str) -> Answered:
        """The question with what was written."""
        return Answered(self.input, self.prompt, text.strip(), self.wanted)


def learned_from(task: Task, reward: Reward) -> list[str]:
    """The inputs of a task that a policy can be trained on: those with outputs, and the others too where the reward
    needs none; each once.

    Raises
    ------
    ValueError : there is none.
    """
    known = [one.input for one in task.examples]
    found = list(dict.fromkeys(known if reward.wants_outputs else [*task.inputs, *known]))
    if not found:
        needed = "examples: inputs with their outputs" if reward.wants_outputs else "inputs, or examples"
        raise ValueError(f"with this reward a policy learns from the task's {needed}; it has none")
    return found


def answered(drawn: Drawn, questions: Sequence[Question]) -> list[Answered]:
    """Questions with the answers that were drawn to each."""
    asked = [question for question in questions for _ in range(drawn.group)]
    return [question.answered(one.text) for question, one in zip(asked, drawn.completions, strict=True)]


def judged(
    drawn: Drawn, questions: Sequence[Question], reward: Reward, *, missing_end: float = 0.0
) -> tuple[Float64[Tensor, " n"], Counter[str]]:
    """The reward of each answer, NaN where there is none; and how many have none, by reason.

    Parameters
    ----------
    questions : what was asked, one a group of answers.
    missing_end : taken off the reward of an answer that was cut off, 0 or more.
    """
    found, reasons = rewarded(reward, answered(drawn, questions))
    return torch.from_numpy(found) - missing_end * (~drawn.ended).double(), reasons


def paid(
    rewards: Float[Tensor, " n"], kl: Float[Tensor, "n t"], mask: Bool[Tensor, "n t"], beta: float
) -> Float[Tensor, " n"]:
    """Rewards of answers less beta for every nat by which the policy held them likelier than its reference did."""
    return rewards - beta * kl.where(mask, 0.0).sum(dim=1).to(rewards)


def counted(before: Counter[str], reasons: Counter[str], rewards: Float[Tensor, " n"]) -> Counter[str]:
    """The answers that were left out so far, by reason, after those of one update.

    Raises
    ------
    ValueError : none was left out before, and not one of these has a reward: something is wrong with the reward.
    """
    if not before.total() and not rewards.isfinite().any():
        told = "; ".join(f"{count} times {why}" for why, count in reasons.most_common(3))
        raise ValueError(f"none of the first {len(rewards)} answers has a reward: {told}")
    return before + reasons
