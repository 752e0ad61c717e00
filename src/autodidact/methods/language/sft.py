"""Supervised fine-tuning of a language model: the likelihood of given answers."""

from __future__ import annotations

from typing import ClassVar, Literal

from autodidact.catalog import Card
from autodidact.data.batch import Batch
from autodidact.lm.kept import LanguageModel
from autodidact.lm.local import LocalLM
from autodidact.methods.method import Loss, Method, Progress, Views
from autodidact.model import Model
from autodidact.objectives.likelihood import sft_loss

CARD = Card(
    name="sft",
    target="SFT",
    kind="method",
    verb="improve",
    title="Supervised fine-tuning",
    paper="cross-entropy of given answers; what self-training ends with, and the baseline with real answers",
    summary="Trains a language model to give the outputs of examples, and nothing but these.",
    needs=(("prompt", "text"), ("completion", "text")),
    abilities=("generate", "score", "choose"),
    arguments=("mean",),
    extra="language",
)


class SFT(Method):
    """Cross-entropy of the completions' tokens, their end among them; prompts are read and not learned.

    An answer without a text teaches its end alone: to say nothing.

    Parameters
    ----------
    lm : with weights that can be changed; where it has an adapter, only that is trained.
    mean : "token" counts every token of the batch alike, so that long answers count more; "sequence" counts every
        answer alike.
    """

    needs: ClassVar = {"prompt": "text", "completion": "text"}
    slots = ("lm",)

    def __init__(self, lm: LocalLM, *, mean: Literal["token", "sequence"] = "token") -> None:
        super().__init__()
        self.lm = lm
        self.mean = mean

    def views(self, batch: Batch, progress: Progress) -> Views:
        return Views({"pair": self.lm.encode(batch["prompt"], batch["completion"])}, batch.ids)

    def loss(self, views: Views, progress: Progress) -> Loss:
        pair = views["pair"]
        return Loss(sft_loss(self.lm.logprobs(pair), pair.answer, mean=self.mean))

    def kept(self) -> Model:
        return LanguageModel(self.lm)
