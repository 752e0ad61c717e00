"""Supervised training: an encoder and a head learn labels, or the values of a target."""

from __future__ import annotations

from typing import Any

import torch

from autodidact.catalog import Card
from autodidact.data.batch import Batch
from autodidact.data.schema import Schema
from autodidact.methods.method import Loss, Progress, Sweep, Views
from autodidact.methods.predicting import Predicting, ReadOut
from autodidact.model import Encoder
from autodidact.objectives.shards import mean_over_rows

CARD = Card(
    name="supervised",
    target="Supervised",
    kind="method",
    title="Supervised training",
    paper="cross-entropy of labels, or squared error of a target; what fine-tuning and the from-scratch baseline are",
    summary="Trains an encoder and a linear head on labels or on a numeric target, with augmented images.",
    abilities=("embed", "predict"),
    arguments=("view", "label_smoothing", "encoder_lr"),
    encoder="small:convnet",
)


class Supervised(Predicting):
    """Cross-entropy of the labels, or mean squared error of the standardised target.

    Rows without an answer (label -1, target NaN) do not count. Targets are standardised by the mean and spread of the
    training rows, which one pass before the first update finds.

    Parameters
    ----------
    encoder : of any kind.
    schema : the source's; has a field of kind "label" with its classes, or else one of kind "target".
    read_out : what the head reads: "pooled" (the encoder's own), "mean" or "flat" (its last tokens averaged, or side by
        side), "pooled+mean" (the first two side by side).
    view : augmentation of images by name, see `Predicting`.
    view_changes : fields of `autodidact.views.Augment` to change, for example ``{flip: 0}``.
    label_smoothing : share of the probability that is spread over all classes, in [0, 1) (Szegedy et al., 1512.00567).
    dropout : probability on the embedding.
    encoder_lr : learning rate of the encoder relative to that of the head.
    head_first : updates during which only the head learns.
    projection : size of the projection that the head reads in place of the embedding, by the same MLP that contrastive
        methods throw away after training; it keeps the embedding freer of the labels. 0 for none.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        schema: Schema,
        read_out: ReadOut = "pooled",
        view: str = "auto",
        view_changes: dict[str, Any] | None = None,
        label_smoothing: float = 0.0,
        dropout: float = 0.0,
        encoder_lr: float = 1.0,
        head_first: int = 0,
        projection: int = 0,
    ) -> None:
        super().__init__(
            encoder,
            schema=schema,
            read_out=read_out,
            view=view,
            view_changes=view_changes,
            dropout=dropout,
            encoder_lr=encoder_lr,
            head_first=head_first,
            projection=projection,
        )
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing is a share in [0, 1), got {label_smoothing}")
        self.label_smoothing = label_smoothing

    def refresh(self, sweep: Sweep, progress: Progress) -> None:
        if not self.classifies:
            self.standardise(sweep(lambda batch: {"answer": batch[self.answer].float()})["answer"])

    def views(self, batch: Batch, progress: Progress) -> Views:
        return self.show(self.inputs(batch, progress), {"answer": batch[self.answer]}, batch)

    def loss(self, views: Views, progress: Progress) -> Loss:
        out = self.predictor(views["input"]).float()
        answers = views["answer"]
        if self.classifies:
            each = torch.nn.functional.cross_entropy(
                out, answers, ignore_index=-1, label_smoothing=self.label_smoothing, reduction="none"
            )
            known = answers >= 0
        else:
            wanted = (answers.float() - self.predictor.mean) / self.predictor.std
            known = wanted.isfinite()
            each = (out[:, 0] - wanted.nan_to_num()) ** 2
        return Loss(mean_over_rows(each, counted=known))
