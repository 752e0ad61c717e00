"""A language model as a kind of model that is saved, loaded and applied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float64
from torch import Tensor

from autodidact.data.batch import Batch
from autodidact.data.texts import OPTIONS
from autodidact.lm.instructions import Instance
from autodidact.lm.lm import Sampling
from autodidact.lm.local import LocalLM
from autodidact.lm.task import Task
from autodidact.lm.turns import asked_again
from autodidact.model import Ability, Model


class TextModel(Model):
    """A model that reads texts: its data may be a file of lines.

    Parameters
    ----------
    task : how its inputs are written down. Without one, an input is the prompt itself.
    """

    def __init__(self, task: Task | None) -> None:
        super().__init__()
        self.task = task

    def _inputs(self, batch: Batch) -> list[str]:
        name = next((name for name in ("input", "text") if name in batch), None)
        if name is None:
            raise ValueError(
                f"a language model reads a field 'prompt', 'input' or 'text'; the data has {', '.join(batch.fields)}"
            )
        if self.task is not None and "instruction" in batch:
            rows = zip(batch["instruction"], batch[name], strict=True)
            return [self.task.layout.question(Instance(instruction, given)) for instruction, given in rows]
        return list(batch[name])


class LanguageModel(TextModel):
    """A language model with the task that it is good at, if there is one.

    Saved, it holds all its weights, those of the base beside the adapter's where it has one; `LocalLM.save_folder`
    writes an adapter alone.

    Parameters
    ----------
    lm : with its weights.
    task : how its inputs are written down. Without one, an input is the prompt itself.
    again : asks for a second answer, which is then what it generates; None for a model that answers once.

    Attributes
    ----------
    sampling : how answers are drawn; by default the likeliest tokens.
    answers_itself : whether it is `lm` that answers, so that its answers are what training has made of them.
    """

    kind: ClassVar[str] = "language_model"
    answers_itself: ClassVar[bool] = True

    def __init__(self, lm: LocalLM, task: Task | None = None, *, again: str | None = None) -> None:
        super().__init__(task)
        self.lm = lm
        self.again = again
        self.abilities: tuple[Ability, ...] = ("generate", "score", "choose")
        if task is not None and task.labels:
            self.abilities = (*self.abilities, "predict")
        stop = task.style.stop if task is not None else ()
        self.sampling = Sampling(max_tokens=task.max_tokens if task is not None else 128, temperature=0.0, stop=stop)

    @property
    def settings(self) -> dict[str, Any]:  # type: ignore[override]
        again = {} if self.again is None else {"again": self.again}
        return {"lm": self.lm.plain(), "task": None if self.task is None else self.task.plain(), **again}

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> LanguageModel:
        task = None if settings["task"] is None else Task.from_plain(settings["task"])
        return cls(LocalLM.from_plain(settings["lm"]), task, again=settings.get("again"))

    def prompts(self, batch: Batch) -> list[str]:
        """What the model is asked for each sample: the field "prompt" as it is, or the task's prompt for its input.

        An input that has an "instruction" beside it is written down with it, as the task's layout has it.

        Raises
        ------
        ValueError : the batch has neither.
        """
        if "prompt" in batch:
            return list(batch["prompt"])
        return [text if self.task is None else self.task.prompt(text) for text in self._inputs(batch)]

    def generate(self, batch: Batch) -> dict[str, list[str]]:
        """``output``: the answer to each sample, without spaces around it; ``input``: what was asked. Of a model that
        answers twice the output is the second answer, and ``first`` the first one."""
        asked = list(batch["prompt"]) if "prompt" in batch else self._inputs(batch)
        prompts = self.prompts(batch)
        said = [found[0] for found in self.lm.generate(prompts, self.sampling)]
        first = [one.text.strip() for one in said]
        if self.again is None:
            return {"output": first, "input": asked}
        again = [asked_again(self.lm, *turn, self.again) for turn in zip(prompts, said, strict=True)]
        second = [found[0].text.strip() for found in self.lm.generate(again, self.sampling)]
        return {"output": second, "first": first, "input": asked}

    def score(self, batch: Batch) -> Float64[Tensor, " n"]:
        """Log-probability (nats) of each sample's "output" (or "completion") as the answer, its end among it: what ends
        it in the task's style, and the end of the text."""
        found = self.lm.score(self.prompts(batch), self._wanted(batch))
        return torch.tensor([one.total for one in found], dtype=torch.float64)

    def predict(self, batch: Batch) -> dict[str, Any]:
        """``class``: the likeliest of the task's labels; ``probabilities``: of all of them, (n, c)."""
        assert self.task is not None
        found = self.lm.choose(self.prompts(batch), self._written(self.task.labels))
        return {"class": [self.task.labels[k] for k in found.argmax(axis=1)], "probabilities": torch.from_numpy(found)}

    def choose(self, batch: Batch) -> dict[str, Any]:
        """``choice``: the likeliest of each sample's "options", or of the task's labels where it has none;
        ``probabilities``: of each of them, in their order, which sum to 1.

        Raises
        ------
        ValueError : there is nothing to choose from, or a sample has fewer than two options or the same one twice.
        """
        labels = list(self.task.labels) if self.task is not None else []
        if OPTIONS not in batch and not labels:
            raise ValueError(
                f"to choose, data needs a field '{OPTIONS}', a list of texts; it has {', '.join(batch.fields)}"
            )
        given = batch[OPTIONS] if OPTIONS in batch else [labels] * len(batch)
        rows = dict[tuple[str, ...], list[int]]()
        for place, options in enumerate(given):
            rows.setdefault(tuple(options), []).append(place)
        prompts, chosen, probabilities = self.prompts(batch), [""] * len(batch), [list[float]()] * len(batch)
        for options, places in rows.items():
            found = self.lm.choose([prompts[place] for place in places], self._written(options))
            for place, row in zip(places, found, strict=True):
                chosen[place], probabilities[place] = options[row.argmax()], row.tolist()
        return {"choice": chosen, "probabilities": probabilities}

    def _wanted(self, batch: Batch) -> Sequence[str]:
        if "completion" in batch:
            return list(batch["completion"])
        if "output" not in batch:
            raise ValueError(f"to be scored, data needs a field 'output'; it has {', '.join(batch.fields)}")
        return [text if self.task is None else self.task.completion(text) for text in batch["output"]]

    def _written(self, options: Sequence[str]) -> list[str]:
        """Options as the model writes them. Where one begins another, only what ends them tells them apart."""
        if self.task is None:
            return list(options)
        plain = [self.task.answer(option) for option in options]
        if any(one != other and other.startswith(one) for one in plain for other in plain):
            return [self.task.completion(option) for option in options]
        return plain
