"""What methods that train an encoder with a head share: the augmented input, the head, the predictor that is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from autodidact.catalog import unknown
from autodidact.data.batch import Batch, Ragged
from autodidact.data.schema import Kind, Schema
from autodidact.encoders.kept import EncoderModel, PredictorModel, Tap
from autodidact.encoders.program import Program
from autodidact.methods.method import Group, Method, Progress, Views
from autodidact.methods.two_views import gentle_augment_for
from autodidact.model import Encoder
from autodidact.views import Augment

ReadOut = Literal["pooled", "mean", "flat", "pooled+mean"]


class Predicting(Method):
    """An encoder with a linear head.

    Parameters
    ----------
    encoder : of images, tables or anything else; only images are augmented.
    schema : has a field of kind "label" with its classes, or else one of kind "target".
    read_out : what the head reads: "pooled", the encoder's own; "mean", the average of its last tokens or positions;
        "flat", these side by side; "pooled+mean", the first two side by side.
    view : augmentation of images by name; "auto" is "weak" (crop and flip) for colour images, and for others what
        contrastive pretraining uses, without anything that a label could depend on: "tiny" up to 16 pixels a side,
        "grey" above. "none" shows the image as it is.
    view_changes : fields of `autodidact.views.Augment` to change.
    dropout : probability on the embedding.
    encoder_lr : learning rate of the encoder relative to that of the head.
    head_first : updates during which the encoder stays as it is and only the head learns.
    projection : size of the projection, by the MLP that contrastive methods put between encoder and loss, that the head
        reads in place of the embedding; 0 for none.
    predictor : what makes the model that is trained and kept.
    """

    needs: ClassVar[Mapping[str, Kind]] = {}
    learns_answers = True

    def __init__(
        self,
        encoder: Encoder,
        *,
        schema: Schema,
        read_out: ReadOut,
        view: str,
        view_changes: dict[str, Any] | None,
        dropout: float,
        encoder_lr: float,
        head_first: int,
        projection: int = 0,
        predictor: Callable[..., PredictorModel] = PredictorModel,
    ) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is a probability in [0, 1), got {dropout}")
        if encoder_lr < 0 or head_first < 0:
            raise ValueError(f"encoder_lr and head_first must not be negative, got {encoder_lr} and {head_first}")
        if projection < 0:
            raise ValueError(f"projection is a number of dimensions, or 0 for none; got {projection}")
        self.answer, classes = answer_field(schema)
        if read_out not in get_args(ReadOut):
            raise unknown("read-out", str(read_out), get_args(ReadOut))
        tap = None if read_out == "pooled" else read_out
        width = None if tap is None else _width(encoder, tap)
        head_args = {"dropout": dropout, **({"projection": projection} if projection else {})}
        self.predictor = predictor(encoder, tap=tap, width=width, classes=classes, head=head_args)
        self.encoder_lr, self.head_first = encoder_lr, head_first
        self.augment = _augment(encoder, view, view_changes)

    @property
    def encoder(self) -> Encoder:
        return self.predictor.encoder

    @property
    def classifies(self) -> bool:
        """Whether the answers are classes, not values."""
        return bool(self.predictor.classes)

    def start_head(self, weight: Float[Tensor, "out d"], bias: Float[Tensor, " out"]) -> None:
        """Start the head from a linear probe on what it reads, instead of from zero."""
        with torch.no_grad():
            self.predictor.head.out.weight.copy_(weight)
            self.predictor.head.out.bias.copy_(bias)

    def keep_neck(self, neck: Mapping[str, Any], weights: Mapping[str, Tensor]) -> None:
        """Put pretrained layers between the encoder and a new head, as SimCLR v2 does (2006.10029, section 2.2).

        Parameters
        ----------
        neck : arguments of `autodidact.heads.projector`, see `PredictorModel`.
        weights : its parameters and buffers by name; those of layers that are not made are left out.
        """
        old = self.predictor
        self.predictor = PredictorModel(
            old.encoder, tap=old.tap, width=old.width, neck=neck, classes=old.classes, head=old.head_args
        )
        wanted = self.predictor.neck.state_dict()
        self.predictor.neck.load_state_dict({name: weights[name] for name in wanted})

    def inputs(self, batch: Batch, progress: Progress) -> Any:
        """What the encoder sees: augmented images, or the fields as they are."""
        if self.augment is None:
            return self.encoder.prepare(batch.fields)
        box = batch.fields.get("box")
        assert not isinstance(box, list | Ragged)
        return self.augment(batch[self.encoder.spec["field"]], progress.generator, box)

    def standardise(self, values: Float[Tensor, " n"]) -> None:
        """Let the head work in units of the mean and spread of these values; NaN are left out."""
        known = values[values.isfinite()].double()
        if len(known) == 0:
            raise ValueError(f"the field '{self.answer}' holds no value")
        self.predictor.mean.fill_(known.mean())
        self.predictor.std.fill_(known.std(correction=0).clamp(min=1e-12) if known.min() < known.max() else 1.0)

    def groups(self) -> list[Group]:
        pretrained = [*self.encoder.parameters(), *self.predictor.neck.parameters()]
        known = set(pretrained)
        return [
            Group("encoder", pretrained, lr_scale=self.encoder_lr, frozen_until=self.head_first),
            Group("head", [p for p in self.parameters() if p.requires_grad and p not in known]),
        ]

    def kept(self) -> PredictorModel:
        return self.predictor

    def show(self, inputs: Any, answers: Mapping[str, Any], batch: Batch) -> Views:
        """The named views of a batch: the input and what is known about it."""
        return Views({"input": inputs, **answers}, batch.ids)


def _width(encoder: Encoder, tap: Tap) -> int:
    """Size of what is read out, by reading it out once."""
    model = EncoderModel({"encoder": encoder}, tap=tap)
    training = encoder.training
    encoder.eval()
    program = Program(model)
    with torch.no_grad():
        found = program(*program.example(1, torch.Generator().manual_seed(0)))
    encoder.train(training)
    return found.shape[1]


def answer_field(schema: Schema) -> tuple[str, tuple[str, ...]]:
    """Name of the field that is predicted, and its classes (none for a regression).

    Raises
    ------
    ValueError : there is neither label nor target, or the label has fewer than two classes.
    """
    label, target = schema.first("label"), schema.first("target")
    if label is not None:
        classes = schema[label].classes
        if len(classes) < 2:
            raise ValueError(f"the label '{label}' has {len(classes)} classes; a classifier needs at least two")
        return label, classes
    if target is not None:
        return target, ()
    has = ", ".join(f"{name} ({field.kind})" for name, field in schema.items()) or "no field"
    raise ValueError(f"learning to predict needs a label or a target; this data has {has}")


def _augment(encoder: Encoder, view: str, changes: Mapping[str, Any] | None) -> Augment | None:
    if encoder.accepts != "image":
        if view not in ("auto", "none") or changes:
            raise ValueError(f"{encoder.name} does not read images, so there is no view '{view}' to make")
        return None
    if view == "none" and not changes:
        return None
    return gentle_augment_for(encoder, view, changes)
