"""SimCLR v2: contrastive pretraining, fine-tuning from inside the head, distillation on all images."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
from torch import Tensor

from autodidact.catalog import Card, unknown
from autodidact.data.source import Source
from autodidact.data.splits import label_budget, label_fraction
from autodidact.data.store import Store
from autodidact.encoders.kept import EncoderModel, PredictorModel, ProjectedModel
from autodidact.evaluation.finetune import filled
from autodidact.methods.distilled import SameViewDistilled
from autodidact.methods.image.simclr import SimCLR
from autodidact.methods.predicting import answer_field
from autodidact.methods.supervised import Supervised
from autodidact.model import Model, load_model
from autodidact.recipes.names import make_method
from autodidact.recipes.stages import Recipe, Site, Stage, training
from autodidact.training import Settings

CARD = Card(
    name="simclrv2",
    target="SimCLRv2",
    kind="recipe",
    number=3,
    title="SimCLR v2",
    paper="Chen, Kornblith, Swersky, Norouzi, Hinton: Big Self-Supervised Models are Strong Semi-Supervised Learners "
    "(2006.10029, 2020)",
    summary="Pretrains on all images, fine-tunes on the few labelled ones, distils that into a small classifier.",
    needs=(("image", "image"),),
    abilities=("embed", "predict"),
    arguments=("labels", "head_layers", "until", "distill_temperature"),
    claim="simclrv2",
    encoder="small:convnet",
)

Until = Literal["pretrain", "finetune", "distill"]
PASSES, LEAST = 60, 200
"""Passes over the labelled images in fine-tuning, and the least number of updates."""


class SimCLRv2(Recipe):
    """SimCLR v2 (arXiv 2006.10029, section 2): from many images and few labels to a small classifier.

    Three trainings in a row. (1) SimCLR with a projection head of three layers, on all images, without labels. (2) The
    encoder, the first layers of that head and a new linear classifier, all trained on the labelled images. (3) A
    student that learns what this network says of all images, of the very crop that the student sees. A run that was cut
    off goes on where it was, in the middle of a training too.

    Each training can also be run alone: `until` ends after one; `pretrained` takes the result of the first from a run
    folder, and `teacher` that of the second. The student is built from the slot "student": ``--encoder
    encoder=timm:resnet50d --encoder student=timm:resnet18`` distils from big to small; with one name for both it is
    self-distillation. It starts from random weights, as in the released code. The training settings are those of the
    pretraining and of the distillation; fine-tuning has its own: AdamW, without weight decay and without warm-up.

    What remains is the student. It predicts the classes, and embeds by its encoder. The memory of a momentum encoder's
    keys, with which the paper gains about a point, is not part of it, as it is not of the released code.

    Parameters
    ----------
    labels : how many of the labels may be used: "1%" of each class, "10-per-class", or "100%" for all that are known.
        Images whose label is unknown (-1) are unlabelled in any case. Which ones are used follows from the seed alone.
    until : "pretrain", "finetune" or "distill": the last training.
    pretrained : run or model folder to take instead of pretraining: of this recipe, until "pretrain"; or of another
        method, with `head_layers` 0.
    teacher : run or model folder of a classifier to distil, instead of pretraining and fine-tuning one.
    head_layers : layers of the projection head that stay in fine-tuning, from 0 to `projector_layers`. Paper: 1 for 1 %
        and 10 % of the labels, 0 for all of them.
    projector_layers : layers of the projection head. Paper: 3.
    dimensions : width of the projections. Paper: 128.
    temperature : of NT-Xent. Paper: 0.1.
    view : augmentation in pretraining, by name, see `SimCLR`.
    finetune_steps : updates of fine-tuning; 0 for 60 passes over the labelled images, and at least 200. Paper: 60
        passes with 1 % of the labels, 30 with 10 %.
    finetune_batch : images in an update of fine-tuning. Paper: 1,024.
    finetune_lr : peak learning rate of fine-tuning. Paper: 0.16 with LARS.
    finetune_view : augmentation in fine-tuning and distillation, by name, see `Supervised`; "auto" is crop and flip for
        colour images.
    finetune_view_changes : fields of `autodidact.views.Augment` to change in it.
    distill_steps : updates of distillation; 0 for as many as pretraining has.
    distill_temperature : of the softmax of teacher and student. Paper: 1.0 in the released code, 0.1 for some runs.
    label_share : weight of the known labels against the teacher in distillation, in [0, 1]. Paper: 0.
    self_distilled : distil the fine-tuned network into one of its own size first, and that one into the student, as the
        paper does for its small students.
    """

    slots = ("encoder", "student")

    def __init__(
        self,
        *,
        labels: str = "100%",
        until: Literal["pretrain", "finetune", "distill"] = "distill",
        pretrained: str = "",
        teacher: str = "",
        head_layers: int = 1,
        projector_layers: int = 3,
        dimensions: int = 128,
        temperature: float = 0.1,
        view: str = "auto",
        finetune_steps: int = 0,
        finetune_batch: int = 64,
        finetune_lr: float = 1e-3,
        finetune_view: str = "auto",
        finetune_view_changes: dict[str, Any] | None = None,
        distill_steps: int = 0,
        distill_temperature: float = 1.0,
        label_share: float = 0.0,
        self_distilled: bool = False,
    ) -> None:
        label_budget(labels)
        if until not in get_args(Until):
            raise unknown("last training", until, get_args(Until))
        if teacher and (pretrained or until != "distill"):
            raise ValueError("a teacher is there to be distilled: leave out pretrained, and until")
        if pretrained and until == "pretrain":
            raise ValueError("with pretrained there is nothing left to do until 'pretrain'")
        if not 0 <= head_layers <= projector_layers:
            raise ValueError(
                f"head_layers is a number of the {projector_layers} layers of the projector, got {head_layers}"
            )
        for name, value in (("temperature", temperature), ("distill_temperature", distill_temperature)):
            if value <= 0:
                raise ValueError(f"{name} must be positive, got {value}")
        if finetune_steps < 0 or distill_steps < 0:
            raise ValueError(f"updates must not be negative, got {finetune_steps} and {distill_steps}")
        if finetune_batch < 2:
            raise ValueError(f"finetune_batch must be at least 2, for the batch norms, got {finetune_batch}")
        if not 0 <= label_share <= 1:
            raise ValueError(f"label_share lies in [0, 1], got {label_share}")
        self.labels, self.until, self.pretrained, self.teacher = str(labels), until, pretrained, teacher
        self.head_layers, self.self_distilled = head_layers, self_distilled
        self.simclr = {
            "temperature": temperature,
            "dimensions": dimensions,
            "layers": projector_layers,
            "norm_last": True,
            "view": view,
        }
        self.finetune_steps, self.finetune_batch, self.finetune_lr = finetune_steps, finetune_batch, finetune_lr
        self.shown = {"view": finetune_view, "view_changes": finetune_view_changes}
        self.distill_steps = distill_steps
        self.distillation = {"temperature": distill_temperature, "label_share": label_share}

    def stages(self, site: Site) -> list[Stage]:
        def labels(results: Mapping[str, Any]) -> Store:
            answer, _ = _classes(site.source)
            store = site.store("labels", **{answer: site.source.schema[answer]})
            store = usable_labels(site.source, self.labels, site.settings.seed, store)
            site.note("labels", _counted(*(np.asarray(of.column(answer)) for of in (store, site.source))))
            return store

        def given(results: Mapping[str, Any]) -> Model:
            return self._given(load_model(self.teacher or self.pretrained), site.source)

        @training
        def pretrain(results: Mapping[str, Any]) -> Model:
            method = make_method(Pretraining, site.encoder, self.simclr, site.source, site.settings.seed)
            return site.train("pretrain", method, site.source)

        @training
        def finetune(results: Mapping[str, Any]) -> Model:
            source = site.source.joined(results["labels"])
            answer, _ = answer_field(source.schema)
            labelled = filled(source.at(np.flatnonzero(source.column(answer) >= 0)), self.finetune_batch)
            method = Supervised(results["pretrain"].encoder, schema=source.schema, **self.shown)  # type: ignore[arg-type]
            if self.head_layers:
                method.keep_neck(*first_layers(results["pretrain"], self.head_layers))
            return site.train("finetune", method, labelled, self._finetuning(site.settings, len(labelled)))

        def distilling(stage: str, teacher: str, slot: str) -> Stage:
            @training
            def distill(results: Mapping[str, Any]) -> Model:
                source = site.source.joined(results["labels"])
                options: dict[str, Any] = {**self.distillation, **self.shown}
                method = SameViewDistilled(
                    site.encoder(slot), schema=source.schema, teacher=results[teacher], **options
                )
                own = {"epochs": None, "tokens": None, "steps": self.distill_steps} if self.distill_steps else {}
                return site.train(stage, method, source, dataclasses.replace(site.settings, **own))  # type: ignore[arg-type]

            return Stage(stage, distill, (teacher, "labels"))

        first = Stage("pretrain", given if self.pretrained else pretrain)
        if self.until == "pretrain":
            return [first]
        # What is wrong with labels or later options is said before the long training, not after it.
        _classes(site.source)
        self._checked(site)
        stages = [Stage("labels", labels)]
        if self.teacher:
            stages.append(Stage("finetune", given))
        else:
            stages += [first, Stage("finetune", finetune, ("pretrain", "labels"))]
        if self.until == "finetune":
            return stages
        if not self.self_distilled:
            return [*stages, distilling("distill", "finetune", "student")]
        own_size = distilling("self-distill", "finetune", "encoder")
        return [*stages, own_size, distilling("distill", "self-distill", "student")]

    def _checked(self, site: Site) -> None:
        """Make the networks and settings of the later trainings once, so that what they refuse is refused now."""
        if not self.teacher:
            Supervised(site.encoder("encoder"), schema=site.source.schema, **self.shown)  # type: ignore[arg-type]
            self._finetuning(site.settings, 1)
        if self.until == "distill":
            Supervised(site.encoder("student"), schema=site.source.schema, **self.shown)  # type: ignore[arg-type]

    def _given(self, model: Model, source: Source) -> Model:
        """A model from elsewhere, which must be able to do what the next stage needs."""
        if self.teacher:
            if not isinstance(model, PredictorModel) or not model.classes:
                raise ValueError(f"a teacher must predict classes; the {model.kind} in {self.teacher} does not")
        elif isinstance(model, ProjectedModel):
            kept = model.head_args["layers"]
            if self.head_layers > kept:
                raise ValueError(f"the projector in {self.pretrained} has {kept} layers, not {self.head_layers}")
        elif not isinstance(model, EncoderModel | PredictorModel):
            raise ValueError(f"{self.pretrained} holds no encoder of images; it is of kind '{model.kind}'")
        elif self.head_layers:
            raise ValueError(
                f"{self.pretrained} holds no projection head (it is of kind '{model.kind}'); use head_layers 0, or a "
                "run of simclrv2 until 'pretrain'"
            )
        assert isinstance(model, EncoderModel | PredictorModel)
        model.encoder.fits(source.schema)
        return model

    def _finetuning(self, settings: Settings, rows: int) -> Settings:
        steps = self.finetune_steps or max(LEAST, PASSES * rows // self.finetune_batch)
        return dataclasses.replace(
            settings,
            epochs=None,
            tokens=None,
            steps=steps,
            batch_size=self.finetune_batch,
            accumulate=1,
            optimizer="adamw",
            lr=self.finetune_lr,
            weight_decay=0.0,
            warmup=0.0,
        )


class Pretraining(SimCLR):
    """SimCLR that keeps its projection head beside the encoder."""

    def kept(self) -> ProjectedModel:
        model = ProjectedModel(self._slot("encoder"), head=self.head_args)
        model.projector.load_state_dict(self.projector.state_dict())
        return model


def first_layers(model: ProjectedModel, layers: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What `Predicting.keep_neck` needs to keep the first layers of a projection head."""
    return {**model.head_args, "first": layers}, model.projector.state_dict()


def usable_labels(source: Source, amount: str, seed: int, store: Store) -> Store:
    """Fill a store with the labels that may be used; all others are -1 in it.

    Parameters
    ----------
    source : has a field of kind "label".
    amount : see `autodidact.data.splits.label_fraction`.
    seed : of the draw.
    store : is returned as it is where it is filled already.

    Raises
    ------
    ValueError : a class has no known label, or the amount cannot be had.
    """
    if len(store):
        return store
    answer, classes = _classes(source)
    known = np.asarray(source.column(answer), dtype=np.int64)
    if missing := sorted(set(range(len(classes))) - set(known.tolist())):
        names = ", ".join(f"'{classes[index]}'" for index in missing[:5])
        raise ValueError(f"no image of '{source.name}' is known to be {names}: label at least one of every class")
    few = label_fraction(source, amount, seed, answer)
    usable = np.full(len(source), -1, dtype=np.int64)
    usable[few] = known[few]
    store.append(source.ids, **{answer: usable})
    return store


def _counted(used: np.ndarray, known: np.ndarray) -> str:
    """How many labels are used, in a sentence; -1 is none."""
    of_each = np.bincount(used[used >= 0])
    return (
        f"{int(of_each.sum()):,} of {int((known >= 0).sum()):,} known labels are used, {of_each.min():,} to "
        f"{of_each.max():,} of a class; {int((known < 0).sum()):,} of {len(known):,} images have no label"
    )


def _classes(source: Source) -> tuple[str, tuple[str, ...]]:
    answer, classes = answer_field(source.schema)
    if not classes:
        raise ValueError(f"SimCLR v2 learns classes; '{answer}' of '{source.name}' is a number")
    return answer, classes
