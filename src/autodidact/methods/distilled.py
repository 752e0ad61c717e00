"""Distillation: a student learns what a teacher said of every sample, labelled or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from autodidact.catalog import Card
from autodidact.data.batch import Batch
from autodidact.data.schema import Kind, Schema
from autodidact.encoders.kept import PredictorModel
from autodidact.methods.method import Loss, Progress, Sweep, Views
from autodidact.methods.predicting import Predicting, ReadOut
from autodidact.model import Encoder
from autodidact.objectives import distillation
from autodidact.objectives.shards import mean_over_rows
from autodidact.targets import EMATeacher

CARD = Card(
    name="distilled",
    target="Distilled",
    kind="method",
    title="Knowledge distillation",
    paper="Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network (1503.02531, 2015)",
    summary="Trains a student on a teacher's predictions, which a store joins to the data, labelled or not.",
    needs=(("teacher", "vector"),),
    abilities=("embed", "predict"),
    arguments=("temperature", "label_share", "view"),
    encoder="small:convnet",
)


class Distilled(Predicting):
    """A student that learns a teacher's soft predictions.

    Hinton et al., 1503.02531, section 2; SimCLRv2, 2006.10029, equations 2 and 3. Of classes the loss is
    `autodidact.objectives.distillation`; of a regression it is the squared difference of the values, in units of the
    teacher's spread. A sample with a label (not -1) may add the cross-entropy of the label.

    Parameters
    ----------
    encoder : the student's.
    schema : the source's; has a field "teacher" (logits of the classes, or one value), and a field of kind "label" with
        the names of the classes, or else one of kind "target".
    temperature : of the softmax, on both sides; above 1 shows more of what the teacher thinks of the other classes.
    label_share : weight of the known labels against the teacher, in [0, 1]; SimCLRv2's equation 3.
    read_out : what the head reads: "pooled" (the encoder's own), "mean" or "flat" (its last tokens averaged, or side by
        side), "pooled+mean" (the first two side by side).
    view : augmentation of images by name, see `Predicting`. The teacher saw the image as it is.
    view_changes : fields of `autodidact.views.Augment` to change.
    dropout : probability on the embedding.
    encoder_lr : learning rate of the encoder relative to that of the head.
    head_first : updates during which only the head learns.
    """

    needs: ClassVar[Mapping[str, Kind]] = {"teacher": "vector"}

    def __init__(
        self,
        encoder: Encoder,
        *,
        schema: Schema,
        read_out: ReadOut = "pooled",
        temperature: float = 1.0,
        label_share: float = 0.0,
        view: str = "auto",
        view_changes: dict[str, Any] | None = None,
        dropout: float = 0.0,
        encoder_lr: float = 1.0,
        head_first: int = 0,
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
        )
        schema.require(self.needs, "distillation")
        classes, given = self.predictor.classes, schema["teacher"].shape if "teacher" in schema else ()
        if classes and given not in ((), (len(classes),)):
            raise ValueError(
                f"the teacher says {given[0]} values of a sample, the student knows {len(classes)} classes"
            )
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        if not 0 <= label_share <= 1:
            raise ValueError(f"label_share lies in [0, 1], got {label_share}")
        if label_share and not self.classifies:
            raise ValueError("label_share mixes in class labels; this data has a target")
        self.temperature, self.label_share = temperature, label_share

    def refresh(self, sweep: Sweep, progress: Progress) -> None:
        if not self.classifies:
            self.standardise(sweep(lambda batch: {"teacher": batch["teacher"].float().flatten()})["teacher"])

    def views(self, batch: Batch, progress: Progress) -> Views:
        known = {"teacher": batch["teacher"]}
        if self.label_share:
            known["label"] = batch[self.answer]
        return self.show(self.inputs(batch, progress), known, batch)

    def said(self, views: Views) -> Float[Tensor, "n c"]:
        """What the teacher says of the samples: logits, or values."""
        return views["teacher"].float()

    def loss(self, views: Views, progress: Progress) -> Loss:
        out, teacher = self.predictor(views["input"]).float(), self.said(views)
        if not self.classifies:
            wanted = (teacher.flatten() - self.predictor.mean) / self.predictor.std
            return Loss(mean_over_rows((out[:, 0] - wanted) ** 2))
        each = distillation(out, teacher, self.temperature)
        if not self.label_share:
            return Loss(mean_over_rows(each))
        labels = views["label"]
        hard = torch.nn.functional.cross_entropy(out, labels, ignore_index=-1, reduction="none")
        share = self.label_share * (labels >= 0)
        return Loss(mean_over_rows((1 - share) * each + share * hard), {"teacher": each.mean()})


class SameViewDistilled(Distilled):
    """A student that learns what a teacher says of the very view that the student sees, as in SimCLR v2.

    The teacher is asked anew in every update; it stays in eval mode and never changes. `Distilled` asks it once, of the
    image as it is, which costs less.

    Parameters
    ----------
    encoder : the student's.
    schema : the source's; has a field of kind "label" whose classes are those of the teacher.
    teacher : a predictor of classes, of any encoder that reads the same fields; it is copied.
    temperature, label_share, view, view_changes : see `Distilled`.
    """

    needs: ClassVar[Mapping[str, Kind]] = {}

    def __init__(
        self,
        encoder: Encoder,
        *,
        schema: Schema,
        teacher: PredictorModel,
        temperature: float = 1.0,
        label_share: float = 0.0,
        view: str = "auto",
        view_changes: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            encoder,
            schema=schema,
            temperature=temperature,
            label_share=label_share,
            view=view,
            view_changes=view_changes,
        )
        if not teacher.classes or teacher.classes != self.predictor.classes:
            raise ValueError(
                f"teacher and student must know the same classes; the teacher knows {_listed(teacher.classes)}, the "
                f"student {_listed(self.predictor.classes)}"
            )
        teacher.encoder.fits(schema)
        self.teacher = EMATeacher(teacher, momentum=1.0)

    def views(self, batch: Batch, progress: Progress) -> Views:
        inputs = self.inputs(batch, progress)
        reader = self.teacher.module.get_submodule("encoder")
        assert isinstance(reader, Encoder)
        shown = batch.fields if self.augment is None else {self.encoder.spec["field"]: inputs}
        known = {"shown": reader.prepare(shown)}
        if self.label_share:
            known["label"] = batch[self.answer]
        return self.show(inputs, known, batch)

    def said(self, views: Views) -> Float[Tensor, "n c"]:
        return self.teacher(views["shown"]).float()


def _listed(classes: Sequence[str]) -> str:
    few = ", ".join(classes[:5]) + (", ..." if len(classes) > 5 else "")
    return f"{len(classes)} ({few})" if classes else "none"
