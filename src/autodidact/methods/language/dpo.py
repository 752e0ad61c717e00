"""Direct preference optimisation of a language model: the better of two answers becomes likelier than the other one."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import ClassVar, Literal

import torch
from torch import Tensor

from autodidact.catalog import Card
from autodidact.data.batch import Batch
from autodidact.lm.adapters import adapter_off
from autodidact.lm.kept import LanguageModel
from autodidact.lm.local import LocalLM
from autodidact.lm.tokenised import Tokenised
from autodidact.methods.method import Group, Loss, Method, Progress, Views
from autodidact.model import Model
from autodidact.objectives.likelihood import sequence_logprobs
from autodidact.objectives.preference import dpo_loss, preference_margins

CARD = Card(
    name="dpo",
    target="DPO",
    kind="method",
    verb="improve",
    title="Direct preference optimisation",
    paper="Rafailov et al.: Direct Preference Optimization: Your Language Model is Secretly a Reward Model "
    "(2305.18290, 2023)",
    summary="Trains a language model on pairs of answers to give the better one, held near what it was by a reference.",
    needs=(("prompt", "text"), ("chosen", "text"), ("rejected", "text")),
    abilities=("generate", "score", "choose"),
    arguments=("beta", "nll_weight", "label_smoothing", "reference"),
    extra="language",
)

REFERENCES = ("ref_chosen", "ref_rejected")
"""Fields with the log-probabilities (nats) of whole answers under the reference, the end among them."""


def check_dpo(beta: float, nll_weight: float, label_smoothing: float, lr_scale: float) -> None:
    """Raise ValueError for options of `DPO` out of their range; recipes ask before answers are paid for."""
    for name, value in (("beta", beta), ("lr_scale", lr_scale)):
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be above 0, got {value}")
    if not 0 <= nll_weight < math.inf:
        raise ValueError(f"nll_weight must be 0 or more, got {nll_weight}")
    if not 0 <= label_smoothing < 0.5:
        raise ValueError(f"label_smoothing lies in [0, 0.5), got {label_smoothing}")


class DPO(Method):
    r"""DPO (arXiv 2305.18290, equation 7), on pairs of a chosen and a rejected answer to one prompt.

    ::

        L = - mean log sigma(beta [log pi(y+|x) / ref(y+|x) - log pi(y-|x) / ref(y-|x)])

    with log-probabilities summed over an answer's tokens, its end among them. It is log 2 at the start, where policy
    and reference agree. The log-probability of the chosen answers may fall while that of the rejected ones falls
    faster; the term ``chosen`` of the log tells, and `nll_weight` works against it.

    Parameters
    ----------
    lm : with weights that can be changed; where it has an adapter, only that is trained.
    beta : > 0; the smaller, the further the model may move from the reference. Paper: 0.1 to 0.5.
    nll_weight : >= 0, of the mean negative log-likelihood a token of the chosen answers, as in iterative reasoning
        preference optimisation (2404.19733), which takes 1.
    label_smoothing : in [0, 0.5), the share of pairs that are believed to be the wrong way round.
    reference : what the model is held to. "recorded" are log-probabilities that the pairs bring; "base" the model
        without its adapter, which costs no memory; "copy" a frozen copy of the model as it is given; "none" no
        reference. "auto" is the first of recorded, base and copy that there is.
    lr_scale : > 0, factor on the learning rate: preferences are learned at a tenth of the rate of answers.

    Raises
    ------
    ValueError : an option out of its range; a reference "base" of a model without an adapter.
    """

    needs: ClassVar = {"prompt": "text", "chosen": "text", "rejected": "text"}
    slots = ("lm",)

    def __init__(
        self,
        lm: LocalLM,
        *,
        beta: float = 0.1,
        nll_weight: float = 0.0,
        label_smoothing: float = 0.0,
        reference: Literal["auto", "recorded", "base", "copy", "none"] = "auto",
        lr_scale: float = 0.1,
    ) -> None:
        super().__init__()
        check_dpo(beta, nll_weight, label_smoothing, lr_scale)
        if reference == "base" and not lm.has_adapter:
            raise ValueError(f"{lm.label} has no adapter, so its base is itself; take a copy as the reference")
        self.lm = lm
        self.beta, self.nll_weight, self.label_smoothing = beta, nll_weight, label_smoothing
        self.reference, self.lr_scale = reference, lr_scale
        self.still = lm.frozen() if reference == "copy" or (reference == "auto" and not lm.has_adapter) else None

    def views(self, batch: Batch, progress: Progress) -> Views:
        prompts = [*batch["prompt"], *batch["prompt"]]
        views = {"pairs": self.lm.encode(prompts, [*batch["chosen"], *batch["rejected"]])}
        if self.reference in ("auto", "recorded") and all(name in batch for name in REFERENCES):
            views |= {name: batch[name] for name in REFERENCES}
        elif self.reference == "recorded":
            raise ValueError(f"recorded references are wanted, and the pairs have no {' and '.join(REFERENCES)}")
        return Views(views, batch.ids)

    def loss(self, views: Views, progress: Progress) -> Loss:
        pairs: Tokenised = views["pairs"]
        answer = pairs.answer.to(self.lm.device)
        chosen, rejected = sequence_logprobs(self.lm.logprobs(pairs), answer).chunk(2)
        ref_chosen, ref_rejected = self._reference(views, answer)
        total = dpo_loss(
            chosen,
            rejected,
            ref_chosen,
            ref_rejected,
            self.beta,
            label_smoothing=self.label_smoothing,
            nll_weight=self.nll_weight,
            chosen_tokens=answer.sum(1).chunk(2)[0],
        )
        margins = preference_margins(chosen, rejected, ref_chosen, ref_rejected, self.beta).detach()
        terms = {
            "chosen": chosen.detach().mean(),
            "rejected": rejected.detach().mean(),
            "margin": margins.mean(),
            "agreement": (margins > 0).float().mean(),
        }
        return Loss(total, terms)

    def _reference(self, views: Views, answer: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Log-probabilities of chosen and rejected answers under the reference."""
        if REFERENCES[0] in views.named:
            first, second = (views[name].to(self.lm.device) for name in REFERENCES)
            return first, second
        if self.reference == "none":
            return None, None
        lm, off = (self.lm, adapter_off(self.lm)) if self.still is None else (self.still, nullcontext())
        # Dropout would make it another reference at every look.
        with torch.no_grad(), lm.evaluating(), off:
            first, second = sequence_logprobs(lm.logprobs(views["pairs"]), answer).chunk(2)
        return first, second

    def groups(self) -> list[Group]:
        return [Group("all", [p for p in self.parameters() if p.requires_grad], lr_scale=self.lr_scale)]

    def kept(self) -> Model:
        return LanguageModel(self.lm)
