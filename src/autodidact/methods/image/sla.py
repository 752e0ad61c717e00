"""SLA: a classifier learns class and transformation as one label, and need not ignore what the transformation does."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from autodidact.catalog import Card, unknown
from autodidact.data.batch import Batch
from autodidact.data.schema import Schema
from autodidact.encoders.kept import read_out
from autodidact.encoders.transformed import Inference, TransformedPredictor
from autodidact.heads import LinearHead
from autodidact.methods.method import Loss, Progress, Views
from autodidact.methods.predicting import Predicting, ReadOut
from autodidact.model import Encoder
from autodidact.objectives import distillation, joint_cross_entropy, label_cross_entropy
from autodidact.objectives.shards import mean_over_rows
from autodidact.views.transformations import TransformationSet

CARD = Card(
    name="sla",
    target="SLA",
    kind="method",
    number=24,
    title="SLA (self-supervised label augmentation)",
    paper="Lee, Hwang, Shin: Self-supervised Label Augmentation via Input Transformations (1910.05872, 2020)",
    summary="Trains a classifier on labels joined with the rotation, or other transformation, of each image shown.",
    abilities=("embed", "predict"),
    arguments=("transformations", "inference", "task"),
    claim="sla",
    encoder="small:convnet",
)

Task = Literal["joint", "separate", "invariant", "plain"]


class SLA(Predicting):
    """Self-supervised label augmentation (arXiv 1910.05872, section 2), and what it is compared with.

    Every sample is shown in all M copies t_1 (as it is) to t_M. With f the encoder, the loss of a sample is by `task`::

        joint      (1/M) sum_j CE(u(f(t_j x)), (y, j))                           SLA: one head of N M outputs
        separate   (1/M) sum_j CE(v(f(t_j x)), y) + CE(w(f(t_j x)), j)           multi-task: two heads
        invariant  (1/M) sum_j CE(v(f(t_j x)), y)                                the copies as mere augmentation
        plain      CE(v(f(x)), y)                                                no copies

    Joint logits ``u_ij = v_i + w_j`` would be the separate heads, ``u_ij = v_i`` the invariant one: SLA drops both
    restrictions. With ``inference="distilled"`` a second head g learns what the aggregated copies s say, from x
    alone: ``+ CE(g(f(x)), y) + beta T^2 H(softmax(s / T), softmax(g(f(x)) / T))``, s without gradient; the
    cross-entropy H has the gradient of the paper's divergence and is larger by the entropy of what s says.

    Samples without a label (-1) do not count; the log shows the share of those that do as ``labelled``. An update
    forwards M times as many images as the batch has.

    Parameters
    ----------
    encoder : of images, or of anything whose input is one tensor.
    schema : the source's; has a field of kind "label" with its classes.
    transformations : "rotation" (4), "rotation2", "colour3", "colour6", "mirror", ..., or several joined, as in
        "rotation+colour3"; see `autodidact.views.transformations.transformation_set`.
    task : "joint" is SLA; "separate", "invariant" and "plain" are the comparisons above.
    inference : how the kept model predicts: "single", from the input as it is; "aggregated", from all M copies at M
        times the cost; "distilled", by a head that learned these answers, at the cost of one. It may be changed
        afterwards.
    over_copies : "mean", or "sum": M times the loss of the copies, and the distillation as it is, which the authors
        advise for sets of the size of ImageNet.
    beta : weight of the distillation. Paper: 1.
    temperature : of the distillation. Paper: 1.
    read_out : what the head reads: "pooled" (the encoder's own), "mean" or "flat" (its last tokens averaged, or side by
        side), "pooled+mean" (the first two side by side).
    view : augmentation of images by name, before the transformations, see `Predicting`.
    view_changes : fields of `autodidact.views.Augment` to change.
    dropout : probability on the embedding.
    encoder_lr : learning rate of the encoder relative to that of the heads.
    head_first : updates during which only the heads learn.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        schema: Schema,
        transformations: str = "rotation",
        task: Task = "joint",
        inference: Inference = "aggregated",
        over_copies: Literal["mean", "sum"] = "mean",
        beta: float = 1.0,
        temperature: float = 1.0,
        read_out: ReadOut = "pooled",
        view: str = "auto",
        view_changes: dict[str, Any] | None = None,
        dropout: float = 0.0,
        encoder_lr: float = 1.0,
        head_first: int = 0,
    ) -> None:
        if task not in get_args(Task):
            raise unknown("task", str(task), get_args(Task))
        if task == "plain" and inference != "single":
            raise ValueError(f"task 'plain' shows no copies, so inference must be 'single', got '{inference}'")
        if beta < 0 or temperature <= 0:
            raise ValueError(f"beta must not be negative and temperature positive, got {beta} and {temperature}")
        if over_copies not in ("mean", "sum"):
            raise ValueError(f"over_copies is 'mean' or 'sum', got '{over_copies}'")
        super().__init__(
            encoder,
            schema=schema,
            read_out=read_out,
            view=view,
            view_changes=view_changes,
            dropout=dropout,
            encoder_lr=encoder_lr,
            head_first=head_first,
            predictor=partial(
                TransformedPredictor,
                transformations=transformations,
                inference=inference,
                joint=task == "joint",
                distilled=inference == "distilled",
            ),
        )
        self.task, self.over_copies, self.beta, self.temperature = task, over_copies, beta, temperature
        if encoder.accepts == "image":
            self.transformations.check((encoder.spec["channels"], *encoder.spec["image_size"]))
        self.which = (
            LinearHead(self.predictor.width, len(self.transformations), dropout=dropout) if task == "separate" else None
        )

    @property
    def model(self) -> TransformedPredictor:
        """What is trained and kept."""
        assert isinstance(self.predictor, TransformedPredictor)
        return self.predictor

    @property
    def transformations(self) -> TransformationSet:
        return self.model.transformations

    def views(self, batch: Batch, progress: Progress) -> Views:
        inputs = self.inputs(batch, progress)
        if not isinstance(inputs, Tensor):
            raise ValueError(
                f"transformations need an encoder whose input is one tensor; {self.encoder.name} has others"
            )
        shown = inputs if self.task == "plain" else self.transformations.copies(inputs)
        return self.show(shown, {"answer": batch[self.answer]}, batch)

    def loss(self, views: Views, progress: Progress) -> Loss:
        labels = views["answer"]
        rows = read_out(self.encoder, views["input"], self.model.tap)
        m = len(rows) // len(labels)
        logits = self.model.head(rows)
        if self.task == "joint":
            total = joint_cross_entropy(logits, labels)
        else:
            total = label_cross_entropy(logits, labels.repeat_interleave(m))
        terms = {"labels": total, "labelled": (labels >= 0).float().mean()}
        if self.which is not None:
            number = torch.arange(m, device=labels.device).repeat(len(labels))
            terms["transformations"] = label_cross_entropy(
                self.which(rows), number.where(labels.repeat_interleave(m) >= 0, -1)
            )
            total = total + terms["transformations"]
        if self.over_copies == "sum":
            total = total * m
        embedding = rows[::m]
        if self.model.second is not None:
            said = self.model.second(embedding)
            together = self.model.aggregate(logits)
            terms["distillation"] = mean_over_rows(distillation(said, together, self.temperature), counted=labels >= 0)
            total = total + label_cross_entropy(said, labels) + self.beta * terms["distillation"]
        return Loss(total, terms, {"embedding": embedding})
