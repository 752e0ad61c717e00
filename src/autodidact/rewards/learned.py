"""A learned reward model as a reward: any model that is saved and can score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from autodidact.data.batch import Batch
from autodidact.lm.reward_model import RewardModel
from autodidact.model import Model, load_model
from autodidact.rewards.reward import Answered, Reward


class Learned(Reward):
    """What a model with the ability "score" gives: the run of a reward model, or any other that scores answers.

    The model gets a batch with the fields "input", "prompt", "output" and "completion" (the last two are both the
    answer), and gives a number a row. It is no part of checkpoints: it does not change.

    Raises
    ------
    ValueError : the model cannot score.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        model.can("score")
        # In a tuple its weights are not this module's own, so that they enter no checkpoint.
        self._model = (model.eval(),)

    @classmethod
    def load(cls, run: str | Path) -> Learned:
        """From a run folder or a model folder."""
        return cls(load_model(run))

    @property
    def model(self) -> RewardModel | None:
        asked = self._model[0]
        return asked if isinstance(asked, RewardModel) else None

    @torch.no_grad()
    def judge(self, answers: Sequence[Answered]) -> list[float]:
        said = [one.answer for one in answers]
        fields: dict[str, Any] = {
            "input": [one.input for one in answers],
            "prompt": [one.prompt for one in answers],
            "output": said,
            "completion": said,
        }
        batch = Batch(torch.arange(len(answers)), fields)
        score: Callable[[Batch], Tensor] = getattr(self._model[0], "score")  # noqa: B009
        return score(batch).tolist()
