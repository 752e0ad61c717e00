"""Reward training: a model gives the better of two texts the higher reward (Bradley and Terry 1952)."""

from __future__ import annotations

from typing import ClassVar

from autodidact.data.batch import Batch
from autodidact.lm.reward_model import RewardModel
from autodidact.methods.method import Loss, Method, Progress, Views
from autodidact.model import Model
from autodidact.objectives.preference import bradley_terry_loss


class BradleyTerry(Method):
    """Trains a reward model on pairs of texts; see `bradley_terry_loss`.

    Parameters
    ----------
    reward : with its trunk; where that has an adapter, the adapter and the head are trained.
    """

    needs: ClassVar = {"chosen": "text", "rejected": "text"}
    slots = ("reward",)

    def __init__(self, reward: RewardModel) -> None:
        super().__init__()
        self.reward = reward

    def views(self, batch: Batch, progress: Progress) -> Views:
        return Views({"better": list(batch["chosen"]), "worse": list(batch["rejected"])}, batch.ids)

    def loss(self, views: Views, progress: Progress) -> Loss:
        count = len(views["better"])
        # Both at once: one pass costs less than two.
        rewards = self.reward.rewards([*views["better"], *views["worse"]])
        better, worse = rewards[:count], rewards[count:]
        right = (better > worse).float().mean().detach()
        return Loss(bradley_terry_loss(better, worse), {"right": right})

    def kept(self) -> Model:
        return self.reward
