"""Two answers before a judge, in both orders, for judges favour a place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from autodidact.lm.lm import LM
from autodidact.lm.task import Task

RIGHTNESS = "the answer is right, and every step that leads to it"
"""What counts, unless it is said otherwise."""


def comparison(task: Task, principle: str, question: str, first: str, second: str) -> str:
    """What a judge is asked about two answers under one principle, as the task's `judge` says."""
    return task.judge.comparison.format(
        instruction=task.instruction, principle=principle, input=question, first=first, second=second
    )


def preferred_in_both_orders(
    judge: LM,
    task: Task,
    inputs: Sequence[str],
    answers: Sequence[str],
    others: Sequence[str],
    principle: str = RIGHTNESS,
) -> Float64[np.ndarray, "n 2"]:
    """Probability of preferring each answer to the other one: where it is shown first, and where it is shown second.

    Where both are above one half, the judge prefers it whatever the order. It is asked as the task's `judge` says.

    Parameters
    ----------
    judge : that can choose.
    inputs : the question that both answers are to.
    principle : the one thing that counts.
    """
    pairs = list(zip(inputs, answers, others, strict=True))
    if not pairs:
        return np.empty((0, 2))
    shown = [
        comparison(task, principle, text, first.strip(), second.strip())
        for text, answer, other in pairs
        for first, second in ((answer, other), (other, answer))
    ]
    found = judge.choose(shown, task.judge.choices).reshape(len(pairs), 2, 2)
    return np.stack([found[:, 0, 0], found[:, 1, 1]], axis=1)
