"""A judge as a kind of model: it rates answers without knowing the right one, and answers where that is worth it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from autodidact.data.batch import Batch
from autodidact.lm.adapters import adapter_off
from autodidact.lm.judging import expected_ratings
from autodidact.lm.kept import LanguageModel
from autodidact.lm.lm import Completion, Sampling
from autodidact.lm.local import LocalLM
from autodidact.lm.task import Task

Writer = LocalLM | Literal["base"] | None


@dataclass(frozen=True)
class Selecting:
    """How a judge's model answers.

    Attributes
    ----------
    best_of : answers that are drawn, of which the best rated one counts; with 1 it is the likeliest one.
    temperature : of these, where there are several.
    threshold : rating from which on an answer is given, in [0, 9]; lower answers are kept back.
    """

    best_of: int = 1
    temperature: float = 1.0
    threshold: float = 0.0

    def sampling(self, task: Task) -> Sampling:
        """How the answers to each input are drawn."""
        several = self.best_of > 1
        return Sampling(
            n=self.best_of,
            max_tokens=task.max_tokens,
            temperature=self.temperature if several else 0.0,
            stop=task.style.stop,
        )


class Judge(LanguageModel):
    """A language model that rates answers from 0 to 9, with the one that writes them where that runs here.

    Parameters
    ----------
    lm : rates.
    task : what the answers are to, and how the judge is asked.
    writer : writes the answers. "base" is the model that rates with its adapter switched off; None for none, then
        answers can only be rated.
    selecting : how it answers.
    """

    kind: ClassVar[str] = "judge"
    answers_itself: ClassVar[bool] = False

    def __init__(self, lm: LocalLM, task: Task, writer: Writer = None, selecting: Selecting | None = None) -> None:
        super().__init__(lm, task)
        if writer == "base" and not lm.has_adapter:
            raise ValueError("a judge whose base writes needs an adapter")
        self.writer = writer
        self.selecting = selecting or Selecting()
        self.abilities = ("score",) if writer is None else ("generate", "score")

    @property
    def settings(self) -> dict[str, Any]:  # type: ignore[override]
        writer = self.writer.plain() if isinstance(self.writer, LocalLM) else self.writer
        # JSON knows no infinity, which stands for selecting nothing.
        kept = {**vars(self.selecting), "threshold": min(self.selecting.threshold, NEVER)}
        return {**super().settings, "writer": writer, "selecting": kept}

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Judge:
        writer = settings["writer"]
        return cls(
            LocalLM.from_plain(settings["lm"]),
            Task.from_plain(settings["task"]),
            LocalLM.from_plain(writer) if isinstance(writer, Mapping) else writer,
            Selecting(**settings["selecting"]),
        )

    def rate(
        self, inputs: Sequence[str], answers: Sequence[str], references: Sequence[str] | None = None
    ) -> Float64[np.ndarray, " n"]:
        """Expected rating of each answer, in [0, 9]; with the wanted answers where they are known. NaN for none."""
        return expected_ratings(self.lm, rating_prompts(self._asked, inputs, answers, references))[0]

    def score(self, batch: Batch) -> Float64[Tensor, " n"]:
        """Expected rating of each sample's "output" as the answer to its "input", in [0, 9].

        With a field "reference" the judge sees the wanted answer too.

        Raises
        ------
        ValueError : the batch lacks a field.
        """
        if "output" not in batch and "completion" not in batch:
            raise ValueError(f"to be rated, data needs a field 'output'; it has {', '.join(batch.fields)}")
        given = list(batch["output"] if "output" in batch else batch["completion"])
        references = list(batch["reference"]) if "reference" in batch else None
        return torch.from_numpy(self.rate(self._inputs(batch), [text.strip() for text in given], references))

    def generate(self, batch: Batch) -> dict[str, Any]:
        """``output``: the best rated answer to each sample; empty where its rating is below the threshold; ``input``:
        what was asked; ``rating``: of that answer; ``answered``: whether it was given.

        Raises
        ------
        ValueError : there is no model here that writes.
        """
        inputs = self._inputs(batch)
        picks = self.best(inputs, self.drawn(inputs))
        kept = [rating >= self.selecting.threshold for _, rating in picks]
        return {
            "output": [text if given else "" for (text, _), given in zip(picks, kept, strict=True)],
            "input": inputs,
            "rating": torch.tensor([rating for _, rating in picks], dtype=torch.float64),
            "answered": torch.tensor(kept),
        }

    def drawn(self, inputs: Sequence[str]) -> list[list[Completion]]:
        """The answers among which the best one is looked for."""
        if self.writer is None:
            raise ValueError("this judge has no model that writes: the answers it was made for come from elsewhere")
        own = self.writer == "base"
        writer = self.lm if self.writer == "base" else self.writer
        with adapter_off(self.lm) if own else nullcontext():
            return writer.generate([self._asked.prompt(text) for text in inputs], self.selecting.sampling(self._asked))

    def best(self, inputs: Sequence[str], drawn: Sequence[Sequence[Completion]]) -> list[tuple[str, float]]:
        """The best rated answer to each input and its rating; an empty one is rated below all others, by -1."""
        texts = [list(dict.fromkeys(one.text.strip() for one in found)) for found in drawn]
        flat = [(question, text) for question, some in zip(inputs, texts, strict=True) for text in some if text]
        ratings = self.rate([question for question, _ in flat], [text for _, text in flat])
        known = dict(zip(flat, np.nan_to_num(ratings, nan=-1.0).tolist(), strict=True))
        rated = [
            [(known.get((question, text), -1.0), text) for text in some]
            for question, some in zip(inputs, texts, strict=True)
        ]
        tops = [max(some, key=lambda one: one[0]) for some in rated]
        return [(text, rating) for rating, text in tops]

    @property
    def _asked(self) -> Task:
        assert self.task is not None
        return self.task


NEVER = 1e9
"""A threshold that no rating reaches."""


def rating_prompts(
    task: Task, inputs: Sequence[str], answers: Sequence[str], references: Sequence[str] | None = None
) -> list[str]:
    """What a judge is asked about each answer; without references nothing of them is in it."""
    known: Sequence[str | None] = references if references is not None else [None] * len(inputs)
    return [
        task.judge.rated(task.instruction, question, answer, reference)
        for question, answer, reference in zip(inputs, answers, known, strict=True)
    ]


def with_threshold(judge: Judge, threshold: float) -> Judge:
    """The same judge with another threshold."""
    return Judge(judge.lm, judge._asked, judge.writer, replace(judge.selecting, threshold=threshold))
