"""Learned values of answers: what an answer is going to be worth, by what has been written of it so far."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from autodidact.catalog import unknown
from autodidact.heads import projector
from autodidact.lm.local import LocalLM
from autodidact.lm.reward_model import RewardModel
from autodidact.lm.tokenised import Tokenised
from autodidact.rewards import Reward


class Values(nn.Module, ABC):
    """Gives each token of an answer the value of what stood before it.

    What can be known without its own weights (`seen`) is worked out once; it then learns from that as often as it is
    asked to. No gradient of it reaches the policy.

    Attributes
    ----------
    rate : its learning rate as a multiple of the policy's.
    """

    rate: float

    @abstractmethod
    def seen(self, lm: LocalLM, tokens: Tokenised) -> Tensor | Tokenised:
        """What values follow from: states of the policy, or the tokens."""

    @abstractmethod
    def forward(self, seen: Tensor | Tokenised) -> Float[Tensor, "n t"]:
        """The value before each token; that before the first one means nothing, for it is never drawn."""


class HeadValues(Values):
    """A small network on the policy's own last layer, from random weights."""

    rate = 10.0

    def __init__(self, lm: LocalLM) -> None:
        super().__init__()
        width = int(lm.causal.config.get_text_config().hidden_size)
        self.head = projector(width, width, 1, norm=None)

    @torch.no_grad()
    def seen(self, lm: LocalLM, tokens: Tokenised) -> Tensor:
        return _before(_last(lm, tokens).float())

    def forward(self, seen: Tensor | Tokenised) -> Float[Tensor, "n t"]:
        assert isinstance(seen, Tensor)
        found: Tensor = self.head(seen)
        return found[..., 0]


class RewardValues(Values):
    """A copy of the reward model, trunk and head, which reads the policy's tokens (SALMON, 2310.05910, section 3.4).

    It learns with all weights that the reward model learned with: its adapter where it has one. It costs one more model
    in memory, and one more pass forwards and back an update.

    Raises
    ------
    ValueError : the reward model has other tokens than the policy.
    """

    rate = 1.0

    def __init__(self, reward: RewardModel, lm: LocalLM) -> None:
        super().__init__()
        if reward.lm.tokenizer.get_vocab() != lm.tokenizer.get_vocab():
            raise ValueError(
                f"a value that starts from the reward model reads the tokens of {lm.label}, and {reward.lm.label} has "
                "others; let it start fresh: value fresh"
            )
        self.model = copy.deepcopy(reward).to(lm.device)
        if not any(weight.requires_grad for weight in self.model.parameters()):
            self.model.requires_grad_(True)

    def train(self, mode: bool = True) -> RewardValues:
        super().train(mode)
        # Without dropout, as the policy: what is learned from is what was said.
        self.model.eval()
        return self

    def seen(self, lm: LocalLM, tokens: Tokenised) -> Tokenised:
        return tokens

    def forward(self, seen: Tensor | Tokenised) -> Float[Tensor, "n t"]:
        assert isinstance(seen, Tokenised)
        head = self.model.head
        found: Tensor = head(_last(self.model.lm, seen).to(head.weight.dtype))
        return _before(found.float())[..., 0]


def check_value(value: str, estimator: str) -> None:
    """Raise ValueError for what a value cannot start from, or where there is none."""
    if value not in ("fresh", "reward"):
        raise unknown("start of the value", value, ("fresh", "reward"))
    if value == "reward" and estimator != "ppo":
        raise ValueError(f"'{estimator}' learns no value that could start from the reward model; 'ppo' does")


def reward_values(reward: Reward, lm: LocalLM) -> RewardValues:
    """Values that start from the reward model that a reward asks.

    Raises
    ------
    ValueError : the reward asks none or several, or one with other tokens.
    """
    models = [part.model for part in reward.modules() if isinstance(part, Reward) and part.model is not None]
    if len(models) != 1:
        raise ValueError(
            f"a value starts from the one reward model that the reward asks, and this reward asks {len(models)}; let "
            "it start fresh: value fresh"
        )
    return RewardValues(models[0], lm)


def _last(lm: LocalLM, tokens: Tokenised) -> Float[Tensor, "n t d"]:
    layer = int(lm.causal.config.get_text_config().num_hidden_layers)
    return lm.hidden(tokens, [layer])[layer]


def _before(states: Float[Tensor, "n t d"]) -> Float[Tensor, "n t d"]:
    """At each token what stood at the one before it; nothing before the first."""
    return torch.cat([torch.zeros_like(states[:, :1]), states[:, :-1]], dim=1)
