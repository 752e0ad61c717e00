"""Whole networks on few labels: fine-tuning, the same from scratch, and distillation on the unlabelled rows."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Shaped

from autodidact.data.schema import Field
from autodidact.data.source import Positions, Source
from autodidact.data.store import Store
from autodidact.encoders.kept import EncoderModel, PredictorModel
from autodidact.evaluation.embeddings import embedder
from autodidact.evaluation.frozen import Frozen
from autodidact.evaluation.hidden import Hidden
from autodidact.evaluation.linear import fit_probe
from autodidact.methods.distilled import Distilled
from autodidact.methods.predicting import Predicting, ReadOut, answer_field
from autodidact.methods.supervised import Supervised
from autodidact.model import Encoder
from autodidact.model.device import pick_device
from autodidact.training import Settings, train

RATES = (3e-4, 1e-3, 3e-3)
ENOUGH = 10
FOLDS = 3
MANY = 200


@dataclass(frozen=True)
class Tuning:
    """How networks are trained on labels; one set for every arm, pretrained or not.

    Attributes
    ----------
    lr : peak learning rate; None chooses, see `choose_rate`.
    steps : updates; None for 200, and 10 passes over the labelled rows more.
    batch_size : samples in an update; fewer labelled rows than that are repeated, each time with another augmentation.
    weight_decay : of AdamW.
    label_smoothing : see `Supervised`.
    view, view_changes : augmentation of images, see `autodidact.methods.predicting.Predicting`.
    distill_steps, distill_batch, distill_lr : of the student in distillation; steps None for 200, and 5 passes over
        the rows more, at most 2,000.
    temperature, label_share : of the student's loss, see `Distilled`. Below 1 the teacher's predictions are sharpened,
        which moves the student's boundaries away from the unlabelled rows.
    accelerator : "auto", "cpu" or "gpu".
    """

    lr: float | None = None
    steps: int | None = None
    batch_size: int = 64
    weight_decay: float = 1e-4
    label_smoothing: float = 0.0
    view: str = "auto"
    view_changes: dict[str, Any] | None = field(default=None, hash=False)
    distill_steps: int | None = None
    distill_batch: int = 128
    distill_lr: float = 1e-3
    temperature: float = 0.5
    label_share: float = 0.0
    accelerator: str = "auto"

    def updates(self, labelled: int) -> int:
        """Updates of a training on so many labelled rows."""
        return self.steps or 200 + 10 * labelled // self.batch_size


def finetune(
    encoder: Encoder,
    labelled: Source,
    *,
    pretrained: bool,
    tuning: Tuning,
    lr: float,
    seed: int,
    read_out: ReadOut = "pooled",
) -> PredictorModel:
    """Train an encoder and a linear head on the labelled rows.

    Parameters
    ----------
    encoder : is copied, not changed.
    labelled : the rows and their answers, nothing else.
    pretrained : start the head from a linear probe on the labelled rows, instead of from zero: a random head's first
        gradients would spoil a good encoder.
    lr : peak learning rate of AdamW, with a tenth of the updates as warm-up, then cosine.
    seed : of data order, augmentation and dropout.
    read_out : what the head reads, see `Supervised`.
    """
    method = Supervised(
        copy.deepcopy(encoder),
        schema=labelled.schema,
        read_out=read_out,
        view=tuning.view,
        view_changes=tuning.view_changes,
        label_smoothing=tuning.label_smoothing,
    )
    if pretrained and method.classifies:
        _start_from_probe(method, labelled, seed)
    return _train(method, labelled, tuning.updates(len(labelled)), tuning.batch_size, lr, tuning, seed)


def choose_rate(
    encoder: Callable[[int], Encoder],
    labelled: Source,
    *,
    pretrained: bool,
    tuning: Tuning,
    seed: int,
    read_out: ReadOut = "pooled",
    say: Callable[[str], object] = lambda _: None,
) -> tuple[float, str]:
    """The peak learning rate for an encoder, and in words how it was chosen.

    Of 3e-4, 1e-3 and 3e-3 the one with the least error on held-out rows **among the labelled ones**: in 3 folds, or
    on a fifth of the rows where there are 200. With fewer than 10 labelled rows a class there is too little to hold
    out; it is 3e-4 then for a pretrained encoder, and for a fresh one 3e-3, or 1e-3 where it has tokens (transformers
    bear less).

    Parameters
    ----------
    say : is told what is tried, in one line, and each time a network is trained: this can take long.
    """
    if tuning.lr is not None:
        return tuning.lr, "given"
    answer, classes = answer_field(labelled.schema)
    if len(labelled) < ENOUGH * max(1, len(classes)):
        fresh = RATES[1] if encoder(seed).token_width else RATES[2]
        return RATES[0] if pretrained else fresh, "usual, too few labels to hold some out"
    folds = _folds(labelled.column(answer), seed)
    errors = [0.0] * len(RATES)
    fits = len(labelled) - len(folds[0])
    say(
        f"{len(RATES)} learning rates on held-out labels, {len(RATES) * len(folds)} networks, {tuning.updates(fits)} "
        "updates each"
    )
    for i, rate in enumerate(RATES):
        for place, held in enumerate(folds):
            started = time.monotonic()
            fit = np.setdiff1d(np.arange(len(labelled)), held)
            model = finetune(
                encoder(seed),
                labelled.at(fit),
                pretrained=pretrained,
                tuning=tuning,
                lr=rate,
                seed=seed,
                read_out=read_out,
            )
            errors[i] += _error(model, labelled.at(held), tuning) * len(held)
            number = i * len(folds) + place + 1
            say(f"network {number} of {len(RATES) * len(folds)} trained in {time.monotonic() - started:.1f} s")
    held_out = sum(map(len, folds))
    return RATES[int(np.argmin(errors))], f"the best of {', '.join(map(str, RATES))} on {held_out} held-out labels"


def _folds(answers: Shaped[np.ndarray, " n"], seed: int) -> list[Positions]:
    """Positions to hold out, one array a fold, each with its share of every class."""
    order = np.random.default_rng(seed).permutation(len(answers))
    if answers.dtype.kind == "i":
        order = order[np.argsort(answers[order], kind="stable")]
    if len(answers) >= MANY:
        return [np.sort(order[::5])]
    return [np.sort(order[first::FOLDS]) for first in range(FOLDS)]


def distill(
    teacher: PredictorModel,
    student: Encoder,
    rows: Source,
    answers: Shaped[np.ndarray, " n"],
    *,
    tuning: Tuning,
    seed: int,
) -> PredictorModel:
    """Train a student on what the teacher says of the training rows (SimCLRv2, 2006.10029, section 2.3).

    Parameters
    ----------
    teacher : a fine-tuned network.
    student : the encoder to start from; it is copied, not changed, and read out as the teacher's.
    rows : labelled and unlabelled; their own answers are not read.
    answers : the known labels, -1 where unknown, or targets, NaN where unknown.
    """
    rows = Hidden(rows)
    name = "label" if teacher.classes else "target"
    width = len(teacher.classes) or 1
    store = Store(
        name="teacher",
        schema={"teacher": Field("vector", shape=(width,)), name: Field(name, classes=teacher.classes)},  # type: ignore[arg-type]
    )
    said = outputs(teacher, rows, accelerator=tuning.accelerator).reshape(len(rows), width)
    store.append(rows.ids, **{"teacher": said, name: answers})
    joined = rows.joined(store)
    method = Distilled(
        copy.deepcopy(student),
        schema=joined.schema,
        read_out=teacher.tap or "pooled",  # type: ignore[arg-type]
        temperature=tuning.temperature,
        label_share=tuning.label_share if teacher.classes else 0.0,
        view=tuning.view,
        view_changes=tuning.view_changes,
    )
    steps = tuning.distill_steps or min(2_000, 200 + 5 * len(rows) // tuning.distill_batch)
    return _train(method, joined, steps, tuning.distill_batch, tuning.distill_lr, tuning, seed)


def outputs(
    model: PredictorModel, source: Source, *, batch_size: int = 256, accelerator: str = "auto"
) -> Float32[np.ndarray, "n ..."]:
    """Logits of the classes, (n, classes), or predicted values, (n,), of every row of a source."""
    device = pick_device(accelerator)
    model.eval().to(device)
    parts = []
    with torch.inference_mode():
        for batch in source.in_order(batch_size):
            moved = batch.to(device)
            found = model(model.encoder.prepare(moved.fields)) if model.classes else model.predict(moved)
            parts.append(found.float().cpu().numpy())
    model.cpu()
    return np.concatenate(parts)


def _train(
    method: Predicting, source: Source, steps: int, batch_size: int, lr: float, tuning: Tuning, seed: int
) -> PredictorModel:
    settings = Settings(
        steps=steps,
        batch_size=batch_size,
        lr=lr,
        weight_decay=tuning.weight_decay,
        warmup=0.1,
        seed=seed,
        devices=1,
        accelerator=tuning.accelerator,  # type: ignore[arg-type]
    )
    model = train(method.train(), filled(source, batch_size), settings, quiet=True)
    assert isinstance(model, PredictorModel)
    return model


def filled(source: Source, size: int) -> Source:
    """The source, its rows repeated as whole sets until they fill a batch."""
    return source.at(np.tile(np.arange(len(source)), -(-size // len(source))))


def _start_from_probe(method: Supervised, labelled: Source, seed: int) -> None:
    embed = embedder(EncoderModel({"encoder": method.encoder}, tap=method.predictor.tap))
    rows = np.concatenate([embed(batch).numpy() for batch in labelled.in_order(256)])
    answers = labelled.column(method.answer)
    none = rows[:0]
    probe = fit_probe(Frozen(rows, answers, none, none, len(method.predictor.classes), seed))
    method.start_head(torch.from_numpy(probe.weight), torch.from_numpy(probe.bias))


def _error(model: PredictorModel, held: Source, tuning: Tuning) -> float:
    """Mean cross-entropy, or mean squared error, on held-out labels."""
    answer, classes = answer_field(held.schema)
    said, truth = outputs(model, held, accelerator=tuning.accelerator), held.column(answer)
    if not classes:
        return float(((said - truth) ** 2).mean())
    return float(torch.nn.functional.cross_entropy(torch.from_numpy(said), torch.from_numpy(truth)))
