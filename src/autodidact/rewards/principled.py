"""A reward model under principles that are drawn anew for every roll-out, and some that are always in force."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from autodidact.lm.reward_model import RewardModel, principle_texts
from autodidact.rewards.reward import Answered, Reward
from autodidact.selection.principles import weighted_draw


class Principled(Reward):
    """What a reward model says under a set of principles (SALMON, 2310.05910, section 3.4).

    All answers to one question in one call are judged by the same set, so that they can be compared with each other;
    the next call draws another. What is always in force need not have been there when the reward model was trained:
    that is how a policy is kept from exploiting it without new preferences.

    Parameters
    ----------
    model : does not learn, and is no part of checkpoints.
    always : names of principles that are in force in every set, "-" before one for its opposite.
    prevent : further ones in words, which no name is needed for.
    drawn : how many others are drawn into each set, by their weights; 0 or more.
    length_bonus : added for an answer as long as the task allows, in proportion for a shorter one up to 0.8 of it, in
        units of the reward. It makes answers longer, whatever they say.
    seed : of the draws.

    Raises
    ------
    ValueError : no such principle, a draw of more than there are, or more in force than the model learned to read at
        once.
    """

    calls: Tensor

    def __init__(
        self,
        model: RewardModel,
        *,
        always: Sequence[str] = (),
        prevent: Sequence[str] = (),
        drawn: int = 3,
        length_bonus: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        # In a tuple its weights are not this module's own, so that they enter no checkpoint.
        self._model = (model.eval(),)
        self.fixed = [*principle_texts(model.asked, always), *prevent]
        named = {name.removeprefix("-") for name in always}
        self.free = [one for name, one in model.asked.principles.items() if name not in named]
        if not 0 <= drawn <= len(self.free) or not (drawn or self.fixed):
            raise ValueError(
                f"{drawn} principles cannot be drawn from {len(self.free)} beside {len(self.fixed)} that are always "
                "in force; one or more must be in force"
            )
        model.must_read(len(self.fixed) + drawn)
        self.drawn, self.length_bonus, self.seed = drawn, length_bonus, seed
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    @property
    def model(self) -> RewardModel:
        return self._model[0]

    def judge(self, answers: Sequence[Answered]) -> list[float]:
        model = self.model
        sets = {text: self._set(k) for k, text in enumerate(dict.fromkeys(one.input for one in answers))}
        self.calls += 1
        inputs, said = [one.input for one in answers], [one.answer for one in answers]
        found = model.judge(inputs, said, [sets[text] for text in inputs]).tolist()
        if not self.length_bonus:
            return [float(value) for value in found]
        longest = model.asked.max_tokens
        shares = [min(len(ids) / longest, 0.8) for ids in model.lm.wording.answer_ids(said)]
        return [value + self.length_bonus * share for value, share in zip(found, shares, strict=True)]

    def _set(self, number: int) -> list[str]:
        """Principles in words for a question: those always in force, and others as they are drawn."""
        if not self.drawn:
            return self.fixed
        rng = np.random.default_rng((self.seed, int(self.calls), number))
        places = weighted_draw(rng, [one.weight for one in self.free], self.drawn)
        return [*(self.free[k].text for k in places), *self.fixed]
