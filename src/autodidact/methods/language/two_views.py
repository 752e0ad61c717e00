"""Judge training on two views of an answer, with the wanted one beside it and without (Self-J)."""

from __future__ import annotations

from typing import ClassVar

from autodidact.data.batch import Batch
from autodidact.lm.kept import LanguageModel
from autodidact.lm.local import LocalLM
from autodidact.methods.method import Loss, Method, Progress, Views
from autodidact.model import Model
from autodidact.objectives.judging import two_view_loss


class TwoViewJudge(Method):
    """A language model learns to rate, and teaches itself to do so without the reference; see `two_view_loss`.

    Parameters
    ----------
    lm : with weights that can be changed; where it has an adapter, only that is trained.
    alpha : weight of the rating's likelihood without the reference. Paper: 0.3.
    alpha_kd : weight of the divergence from what it says with the reference. Paper: 2.
    """

    needs: ClassVar = {"prompt": "text", "referenced": "text", "completion": "text"}
    slots = ("lm",)

    def __init__(self, lm: LocalLM, *, alpha: float = 0.3, alpha_kd: float = 2.0) -> None:
        super().__init__()
        for name, value in (("alpha", alpha), ("alpha_kd", alpha_kd)):
            if not value >= 0:
                raise ValueError(f"{name} must be 0 or more, got {value}")
        self.lm = lm
        self.alpha, self.alpha_kd = alpha, alpha_kd

    def views(self, batch: Batch, progress: Progress) -> Views:
        # The end is not learned: only the token of the rating is ever read.
        teacher, student = (
            self.lm.encode(batch[field], batch["completion"], end=False) for field in ("referenced", "prompt")
        )
        return Views({"teacher": teacher, "student": student}, batch.ids)

    def loss(self, views: Views, progress: Progress) -> Loss:
        teacher, student = views["teacher"], views["student"]
        targets = student.ids[student.answer].to(self.lm.device)
        total, terms = two_view_loss(
            self.lm.answer_logits(teacher),
            self.lm.answer_logits(student),
            targets,
            alpha=self.alpha,
            alpha_kd=self.alpha_kd,
        )
        return Loss(total, terms)

    def kept(self) -> Model:
        return LanguageModel(self.lm)
