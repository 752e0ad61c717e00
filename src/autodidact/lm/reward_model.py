"""A reward model that is told what to reward: a language model with a head, which reads an answer and principles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from autodidact.catalog import unknown
from autodidact.data.batch import Batch
from autodidact.lm.kept import TextModel
from autodidact.lm.lm import Prompt
from autodidact.lm.local import LocalLM
from autodidact.lm.task import Task
from autodidact.lm.tokenised import Tokenised

NOT = "-"
"""Before the name of a principle: its opposite."""


class RewardModel(TextModel):
    """How good an answer is under principles that are named with it, a number in units of its own.

    The reward is a linear function of the last layer's state at the last token of a text that has the answer first,
    then the question, then the principles (SALMON, 2310.05910, section 3.3). Answers are compared by the difference of
    their rewards.

    Parameters
    ----------
    lm : the trunk.
    task : its principles, and the form of the text in `judge.reward`.
    active : names of the principles by which `score` judges, "-" before one for its opposite; default all of the task.
    most : principles of a text that it learns from at most, and more than which it is never asked to judge by; None
        where that is not known.

    Attributes
    ----------
    shortened : texts of which something was left out because they exceed the context.

    Raises
    ------
    ValueError : more active principles than `most`, or one that the task does not have.
    """

    kind: ClassVar[str] = "reward_model"
    abilities = ("score",)

    def __init__(
        self, lm: LocalLM, task: Task, active: Sequence[str] | None = None, *, most: int | None = None
    ) -> None:
        super().__init__(task)
        self.lm = lm
        self.asked = task
        self.active = tuple(task.principles) if active is None else tuple(active)
        self.most = most
        principle_texts(task, self.active)
        self.must_read(len(self.active))
        self.abilities = ("score",)
        width = int(lm.causal.config.get_text_config().hidden_size)
        self.head = nn.Linear(width, 1)
        with torch.no_grad():
            # From nothing, so that all answers begin alike and the trunk's scale decides nothing.
            self.head.weight.zero_()
            self.head.bias.zero_()
        self.head.to(lm.device)
        self.shortened = 0

    @property
    def settings(self) -> dict[str, Any]:  # type: ignore[override]
        return {"lm": self.lm.plain(), "task": self.asked.plain(), "active": list(self.active), "most": self.most}

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> RewardModel:
        lm, task = LocalLM.from_plain(settings["lm"]), Task.from_plain(settings["task"])
        return cls(lm, task, settings["active"], most=settings.get("most"))

    def must_read(self, count: int) -> None:
        """Raise ValueError where so many principles at once are more than it learned to read."""
        if self.most is not None and count > self.most:
            raise ValueError(
                f"{count} principles at once are more than this reward model learned to read, {self.most} (most)"
            )

    def text(self, question: str, answer: str, principles: Sequence[str]) -> str:
        """What the model reads, with principles in words. Where that exceeds the context, the question is cut on the
        left, and if that is not enough the answer on the right."""
        whole = self._written(question, answer, principles)
        over = self._over(whole)
        if over <= 0:
            return whole
        self.shortened += 1
        wording = self.lm.wording
        asked, said = wording.answer_ids([question, answer])
        while over > 0 and (asked or said):
            # Tokens may join where something was cut, so that one pass need not do.
            cut = min(over, len(asked))
            asked, said = asked[cut:], said[: len(said) - (over - cut)] if over > cut else said
            over = self._over(self._written(wording.text(asked), wording.text(said), principles))
        if over > 0:
            raise ValueError(f"the principles alone exceed the context of {self.lm.label} by {over} tokens")
        return self._written(wording.text(asked), wording.text(said), principles)

    def rewards(self, texts: Sequence[str]) -> Float[Tensor, " n"]:
        """The reward of each text, with gradient."""
        rows = [(ids, list[int]()) for ids in self.lm.wording.prompt_ids([Prompt.of(text) for text in texts])]
        return self.read(Tokenised.of(rows, self.lm.ends[0] if self.lm.ends else 0))

    def read(self, tokenised: Tokenised) -> Float[Tensor, " n"]:
        """The reward at the last token of each row, on whichever side the padding is."""
        tokenised = tokenised.to(self.lm.device)
        layer = int(self.lm.causal.config.get_text_config().num_hidden_layers)
        states = self.lm.hidden(tokenised, [layer])[layer]
        places = torch.arange(tokenised.attention.shape[1], device=states.device)
        last = places.where(tokenised.attention, -1).amax(dim=1)
        found = self.head(states[torch.arange(len(states), device=states.device), last].to(self.head.weight.dtype))
        return found[:, 0].float()

    @torch.no_grad()
    def judge(
        self, inputs: Sequence[str], answers: Sequence[str], principles: Sequence[Sequence[str]]
    ) -> Float[Tensor, " n"]:
        """The reward of each answer under principles in words, without gradient."""
        texts = [self.text(*row) for row in zip(inputs, answers, principles, strict=True)]
        parts = [self.rewards(texts[k : k + TOGETHER]).cpu() for k in range(0, len(texts), TOGETHER)]
        return torch.cat(parts) if parts else torch.empty(0)

    def score(self, batch: Batch) -> Float[Tensor, " n"]:
        """The reward of each sample's "output" as the answer to its "input".

        It is judged by the principles that the field "principles" names, with commas between them and "-" before one
        for its opposite; without the field by the `active` ones.

        Raises
        ------
        ValueError : the batch lacks a field, names a principle that the task does not have, or more of them than the
            model learned to read at once.
        """
        if "output" not in batch:
            raise ValueError(f"to be rewarded, data needs a field 'output'; it has {', '.join(batch.fields)}")
        named: Sequence[Sequence[str]] = [self.active] * len(batch)
        if "principles" in batch:
            named = [[one.strip() for one in text.split(",") if one.strip()] for text in batch["principles"]]
        texts = [principle_texts(self.asked, some) for some in named]
        self.must_read(max(map(len, texts), default=0))
        return self.judge(self._inputs(batch), [text.strip() for text in batch["output"]], texts)

    def _written(self, question: str, answer: str, principles: Sequence[str]) -> str:
        form = self.asked.judge
        listed = "".join(form.principle.format(principle=text) for text in principles)
        return form.reward.format(instruction=self.asked.instruction, input=question, answer=answer, principles=listed)

    def _over(self, text: str) -> int:
        return -(self.lm.room(text) or 0)


TOGETHER = 64
"""Texts that are read at once."""


def principle_texts(task: Task, names: Sequence[str]) -> list[str]:
    """Principles in words, by name, "-" before a name for the opposite.

    Raises
    ------
    ValueError : the task has no principle of that name, or no words for its opposite; or one is named twice.
    """
    found = []
    for name in names:
        plain = name.removeprefix(NOT)
        if plain not in task.principles:
            raise unknown("principle", plain, task.principles)
        one = task.principles[plain]
        if name != plain and not one.negated:
            raise ValueError(f"principle '{plain}' has no words for its opposite: negated: ...")
        found.append(one.text if name == plain else one.negated)
    plain_names = [name.removeprefix(NOT) for name in names]
    if len(set(plain_names)) < len(plain_names):
        raise ValueError(f"a principle is in force once, got {', '.join(names)}")
    return found
