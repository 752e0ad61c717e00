"""A language model that answers by way of its own feedback, as a kind of model that is saved, loaded and applied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from autodidact.data.batch import Batch
from autodidact.lm.kept import LanguageModel
from autodidact.lm.latent import depth
from autodidact.lm.lm import LM
from autodidact.lm.local import LocalLM
from autodidact.lm.names import address_of, open_lm
from autodidact.lm.task import Task
from autodidact.lm.updates import Feedback, Given, Tools, answered


class FeedbackModel(LanguageModel):
    """A language model, its task, and the way in which it answers.

    Parameters
    ----------
    lm : one that runs here, which is kept with its weights; or one behind an address, of which the address and
        the name of the key's environment variable are kept.
    task : as of a `LanguageModel`.
    how : the way.
    tools : what that way needs beside the model.
    """

    kind: ClassVar[str] = "self_feedback"
    answers_itself: ClassVar[bool] = False

    def __init__(self, lm: LM, task: Task, how: Feedback, tools: Tools | None = None) -> None:
        # What the base makes of it needs no weights where this class answers in its own way.
        super().__init__(cast(LocalLM, lm), task)
        if not isinstance(lm, LocalLM):
            self.abilities = ("generate",)
        self.how = how
        tools = tools or Tools()
        self.amateur = tools.amateur
        self.shift: Tensor | None
        self.register_buffer("shift", tools.shift)

    @property
    def settings(self) -> dict[str, Any]:  # type: ignore[override]
        amateur = None if self.amateur is None else self.amateur.plain()
        width = None if self.shift is None else self.shift.shape[1]
        if isinstance(self.lm, LocalLM):
            kept = super().settings
        else:
            address, key = self._address
            kept = {"lm": address, "key": key, "task": self._known.plain()}
        return {**kept, "how": asdict(self.how), "amateur": amateur, "shift": width}

    @property
    def _address(self) -> tuple[str, str]:
        found = address_of(self.lm)
        if found is None:
            raise ValueError(f"{self.lm.name} neither runs here nor has an address, so it cannot be kept")
        return found

    @property
    def _known(self) -> Task:
        assert self.task is not None
        return self.task

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> FeedbackModel:
        named = isinstance(settings["lm"], str)
        lm = open_lm(settings["lm"], key=settings["key"]) if named else LocalLM.from_plain(settings["lm"])
        amateur = None if settings["amateur"] is None else LocalLM.from_plain(settings["amateur"])
        shift = None
        if settings["shift"] is not None and isinstance(lm, LocalLM):
            shift = torch.zeros(depth(lm), settings["shift"])
        return cls(lm, Task.from_plain(settings["task"]), Feedback(**settings["how"]), Tools(amateur, shift))

    def answers(self, inputs: Sequence[str]) -> list[Given]:
        """The answer to each input, and what it took."""
        return answered(self.lm, self._known, inputs, self.how, Tools(self.amateur, self.shift))

    def generate(self, batch: Batch) -> dict[str, Any]:
        """``output``: the answer to each sample, empty where none is given; ``input``: what was asked; ``confidence``,
        NaN where it is not told; ``tokens`` that were drawn for it; ``answered``: whether an answer is given.

        Raises
        ------
        ValueError : the batch holds prompts as they are, and not the task's inputs.
        """
        if "prompt" in batch:
            raise ValueError("a model that answers by feedback reads inputs of its task, not prompts as they are")
        inputs = self._inputs(batch)
        given = self.answers(inputs)
        unknown = float("nan")
        return {
            "output": [one.text for one in given],
            "input": inputs,
            "confidence": torch.tensor([unknown if one.confidence is None else one.confidence for one in given]),
            "tokens": torch.tensor([one.tokens for one in given]),
            "answered": torch.tensor([bool(one.text) for one in given]),
        }
