"""The protocols by name: what each needs, and what it does with a draw of labels, or with data alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from typing import Protocol as Shape

import numpy as np

from autodidact.catalog import unknown
from autodidact.data.schema import Kind
from autodidact.evaluation.audit import (
    Look,
    Score,
    look_at_classes,
    look_at_names,
    look_for_copies,
    look_for_neighbours,
    look_through_corruption,
    look_with_few_labels,
    score_associations,
    score_copies,
    score_corruption,
    score_each,
    score_groups,
    score_neighbours,
)
from autodidact.evaluation.curves import Curves
from autodidact.evaluation.frozen import Frozen
from autodidact.evaluation.knn import knn
from autodidact.evaluation.learning_order import find_learning_order
from autodidact.evaluation.linear import linear
from autodidact.evaluation.poison import scan_for_poison
from autodidact.evaluation.propagate import propagate
from autodidact.evaluation.regress import regress

AnswerKind = Literal["label", "target"]


@dataclass(frozen=True)
class Protocol:
    """One way to turn a model and few labels into predictions.

    Attributes
    ----------
    name : what is typed.
    answers : kinds of answers that it can learn.
    about : one sentence: what it does, and how its settings are chosen without a test label.
    frozen : from a draw of labels to predictions, for protocols on frozen embeddings; None where networks are trained,
        and where it has more than one figure.
    unlabelled : most unlabelled rows that it uses; which of them is drawn once, the same for every arm.
    look, score : of a protocol with several figures what it looks at, without an answer of a test row; and from that
        and the answers to figures by name.
    needs : field -> kind that the data must have beside its labels.
    by_group : whether it makes no sense without groups of the test rows.
    by_harm : whether it makes no sense without classes that are harmful where they are wrong.
    """

    name: str
    answers: tuple[AnswerKind, ...]
    about: str
    frozen: Callable[[Frozen], np.ndarray[Any, Any]] | None
    unlabelled: int
    look: Look | None = None
    score: Score | None = None
    needs: Mapping[str, Kind] = field(default_factory=dict)
    by_group: bool = False
    by_harm: bool = False

    @property
    def embeds(self) -> bool:
        """Whether it works on frozen embeddings."""
        return self.frozen is not None or self.look is not None


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "knn",
            ("label",),
            "Vote of the 20 nearest labelled rows by cosine, off the mean of all rows; nothing is chosen.",
            knn,
            2_000,
        ),
        Protocol(
            "linear",
            ("label",),
            "Logistic regression on frozen embeddings; its strength is cross-validated among the labelled rows.",
            linear,
            2_000,
        ),
        Protocol(
            "propagate",
            ("label",),
            "Labels spread over the unlabelled rows along a graph of 7 nearest neighbours; how far is cross-validated "
            "among the labelled rows where there are 10 a class, and is the usual 0.99 otherwise.",
            propagate,
            20_000,
        ),
        Protocol(
            "regress",
            ("target",),
            "Ridge regression on frozen embeddings; its strength has the least leave-one-out error of labelled rows.",
            regress,
            2_000,
        ),
        Protocol(
            "finetune",
            ("label", "target"),
            "The whole network is trained on the labelled rows, augmented; the learning rate is chosen on some held out"
            " among them where there are 10 a class, and is the usual one otherwise.",
            None,
            0,
        ),
        Protocol(
            "finetune+distill",
            ("label", "target"),
            "The fine-tuned network teaches a fresh copy of its starting point on labelled and unlabelled rows; "
            "nothing is chosen.",
            None,
            20_000,
        ),
        Protocol(
            "groups",
            ("label",),
            "The linear probe's accuracy in every group of the test rows, the worst group, and the gap between best "
            "and worst; where there are more than 5 classes also the share of rows whose "
            "class is among the 5 likeliest.",
            None,
            2_000,
            look_at_classes,
            score_groups,
            by_group=True,
        ),
        Protocol(
            "associations",
            ("label",),
            "Share of the test rows that a linear probe takes for a harmful class that is not theirs (among the 5 "
            "likeliest, with a probability of at least 0.1, 0.3, 0.5 or 0.9), in every group, in the one with most, "
            "and the gap between most and least.",
            None,
            2_000,
            look_at_names,
            score_associations,
            by_group=True,
            by_harm=True,
        ),
        Protocol(
            "retrieval",
            ("label",),
            "Share of a test row's 1, 5, 10 and 50 nearest other test rows that carry its label, by group where groups "
            "are given; nothing is trained or chosen.",
            None,
            2_000,
            look_for_neighbours,
            score_neighbours,
        ),
        Protocol(
            "corruption",
            ("label",),
            "kNN and linear probe of clean images on test images with noise, blur and little contrast and on their "
            "negatives, each at three strengths.",
            None,
            2_000,
            look_through_corruption,
            score_corruption,
            {"image": "image"},
        ),
        Protocol(
            "copies",
            ("label",),
            "Mean average precision of finding the image of which a cropped, noisy, blurred or pale one is a copy, "
            "among all test images and up to 2,000 further ones; nothing is trained or chosen, and labels "
            "are not used.",
            None,
            2_000,
            look_for_copies,
            score_copies,
            {"image": "image"},
        ),
        Protocol(
            "fewshot",
            ("label",),
            "The linear probe on 1, 2, 5, 10 and 20 labels a class, as many as the budget has; a draw of labels gives "
            "one such set.",
            None,
            2_000,
            look_with_few_labels,
            score_each,
        ),
    )
}


class Examination(Shape):
    """What a protocol found in data."""

    @property
    def text(self) -> str:
        """For a person, in plain words."""

    def plain(self) -> dict[str, Any]:
        """JSON-ready."""

    def curves(self) -> Sequence[Curves]:
        """Panels of a picture; none where there is nothing to draw."""


@dataclass(frozen=True)
class DataProtocol:
    """One way to look at data alone: no model, no labels, nothing to compare with.

    Attributes
    ----------
    name : what is typed.
    needs : field -> kind that the data must have; any one of them is enough.
    about : one sentence: what it looks for.
    examine : from a source, and whether to be quiet, to what was found.
    """

    name: str
    needs: Mapping[str, Kind]
    about: str
    examine: Callable[..., Examination]


DATA_PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        DataProtocol(
            "poison",
            {"image": "image"},
            "Looks for images that carry the same faint pattern at single frequencies; its thresholds were set on "
            "other clean sets than those on which its false alarms were counted.",
            scan_for_poison,
        ),
        DataProtocol(
            "learning_order",
            {"image": "image", "numeric": "numeric"},
            "Says which linear features of two views of the images, or of successive rows of a table, a JEPA and an "
            "MAE would learn first, by the theory of deep linear networks; nothing is chosen.",
            find_learning_order,
        ),
    )
}


def choose_data(names: Iterable[str]) -> list[DataProtocol]:
    """The protocols on data alone of these names.

    Raises
    ------
    ValueError : a name is unknown, or its protocol measures a model.
    """
    chosen = []
    for name in dict.fromkeys(names):
        if name in PROTOCOLS:
            raise ValueError(
                f"protocol '{name}' measures a model: name a run, and ask for it apart from data protocols"
            )
        if name not in DATA_PROTOCOLS:
            raise unknown("data protocol", name, DATA_PROTOCOLS)
        chosen.append(DATA_PROTOCOLS[name])
    if not chosen:
        raise ValueError(f"no protocol was asked for; on data alone there are {', '.join(DATA_PROTOCOLS)}")
    return chosen


def choose(names: Iterable[str], answers: AnswerKind) -> list[Protocol]:
    """The protocols of these names.

    Raises
    ------
    ValueError : a name is unknown, or the protocol cannot learn such answers; the fitting ones are named.
    """
    chosen = []
    for name in dict.fromkeys(names):
        if name in DATA_PROTOCOLS:
            raise ValueError(f"protocol '{name}' looks at data alone: ask for it without a run, and apart from others")
        if name not in PROTOCOLS:
            raise unknown("protocol", name, PROTOCOLS)
        if answers not in PROTOCOLS[name].answers:
            fitting = ", ".join(p.name for p in PROTOCOLS.values() if answers in p.answers)
            have = "classes" if answers == "label" else "a number, not classes"
            raise ValueError(f"protocol '{name}' does not fit: the answers are {have}; use {fitting}")
        chosen.append(PROTOCOLS[name])
    if not chosen:
        raise ValueError(f"no protocol was asked for; there are {', '.join(PROTOCOLS)}")
    return chosen
