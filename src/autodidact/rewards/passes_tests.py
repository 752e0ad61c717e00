"""Whether an answer passes tests as a program, as a reward."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from autodidact.data.cores import cores
from autodidact.lm.task import Task
from autodidact.rewards.reward import Answered, Reward, Unrewarded


class PassesTests(Reward):
    """1 where an answer is a program that passes tests, else 0; see `ProgramTests`.

    One that does not end, or goes beyond a limit, has 0 too. Unknown is only what could not be run. As many run side by
    side as there are cores, and each but once where it stands there several times.

    Parameters
    ----------
    task : whose checker the tests are.
    """

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task

    def judge(self, answers: Sequence[Answered]) -> list[float | Unrewarded]:
        asked = [(one.answer, one.wanted or "", one.input) for one in answers]
        different = list(dict.fromkeys(asked))
        with ThreadPoolExecutor(cores()) as pool:
            found = dict(zip(different, pool.map(self._one, different), strict=True))
        return [found[one] for one in asked]

    def _one(self, asked: tuple[str, str, str]) -> float | Unrewarded:
        try:
            return float(self.task.right(*asked))
        except RuntimeError as wrong:
            return Unrewarded(f"RuntimeError: {' '.join(str(wrong).split())[:80]}")
