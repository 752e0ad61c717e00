"""Rewards that follow from the text alone: the task's checker, overlap, length, form, novelty."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from hashlib import sha256
from typing import ClassVar

import torch
from torch import Tensor

from autodidact.lm.task import Task
from autodidact.rewards.reward import Answered, Reward
from autodidact.selection import rouge_l


class Checked(Reward):
    """1 where the task's checker takes the answer for the wanted one, else 0."""

    needs_wanted: ClassVar = True

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task

    def judge(self, answers: Sequence[Answered]) -> list[float]:
        return [float(self.task.right(one.answer, one.wanted or "", one.input)) for one in answers]


class Overlap(Reward):
    """ROUGE-L F with the wanted output, in [0, 1]; see `rouge_l`."""

    needs_wanted: ClassVar = True

    def judge(self, answers: Sequence[Answered]) -> list[float]:
        return [rouge_l(one.answer, one.wanted or "") for one in answers]


class Length(Reward):
    """1 up to a number of characters, then falling in a straight line to 0 at twice as many; 0 for an empty answer.

    Parameters
    ----------
    most : characters, from 1.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        if most < 1:
            raise ValueError(f"a length is at least 1 character, got {most}")
        self.most = most

    def judge(self, answers: Sequence[Answered]) -> list[float]:
        return [min(1.0, max(0.0, 2 - len(one.answer) / self.most)) if one.answer else 0.0 for one in answers]


class Matches(Reward):
    """1 where the whole answer matches a regular expression, else 0.

    Raises
    ------
    ValueError : it is none.
    """

    def __init__(self, pattern: str) -> None:
        super().__init__()
        try:
            self.pattern = re.compile(pattern, re.DOTALL)
        except re.error as wrong:
            raise ValueError(f"{pattern!r} is no regular expression: {wrong}") from wrong

    def judge(self, answers: Sequence[Answered]) -> list[float]:
        return [float(self.pattern.fullmatch(one.answer) is not None) for one in answers]


class IsJSON(Reward):
    """1 where the answer is JSON, else 0."""

    def judge(self, answers: Sequence[Answered]) -> list[float]:
        return [float(_is_json(one.answer)) for one in answers]


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


class Labelled(Reward):
    """1 where the answer is one of the task's labels, else 0.

    Raises
    ------
    ValueError : the task has no labels.
    """

    def __init__(self, task: Task) -> None:
        super().__init__()
        if not task.labels:
            raise ValueError("the reward 'label' needs a task with labels")
        self.labels = frozenset(task.labels)

    def judge(self, answers: Sequence[Answered]) -> list[float]:
        return [float(one.answer in self.labels) for one in answers]


class Novelty(Reward):
    r"""A bonus for answers that were seldom given to their input: :math:`1 / \sqrt{c}` the c-th time, in (0, 1].

    Counts are kept by a hash of input and answer. Different ones that fall on one place, of 65,536, count together.
    """

    PLACES = 1 << 16
    counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("counts", torch.zeros(self.PLACES, dtype=torch.long))

    def judge(self, answers: Sequence[Answered]) -> list[float]:
        found = []
        for one in answers:
            origin = json.dumps([one.input, one.answer]).encode()
            place = int.from_bytes(sha256(origin).digest()[:8], "big") % self.PLACES
            self.counts[place] += 1
            found.append(float(self.counts[place]) ** -0.5)
        return found


class Different(Reward):
    """1 less the mean ROUGE-L with the other answers to the same prompt in the batch, in [0, 1]; 0 for a single one."""

    def judge(self, answers: Sequence[Answered]) -> list[float]:
        others: dict[str, list[str]] = {}
        for one in answers:
            others.setdefault(one.prompt, []).append(one.answer)
        return [_difference(one.answer, others[one.prompt]) for one in answers]


def _difference(answer: str, group: Sequence[str]) -> float:
    if len(group) < 2:
        return 0.0
    rest = list(group)
    rest.remove(answer)
    return 1 - sum(rouge_l(answer, other) for other in rest) / len(rest)
