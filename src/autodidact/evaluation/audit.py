"""Protocols that look at more than one accuracy: groups, neighbours, corrupted images, copies, few labels.

They are what SEER (arXiv 2202.08360, section 4) compares encoders by, and serve for any encoder. Each first looks, and
is shown no answer of a test row for that; what it saw is then held against the answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64

from autodidact.evaluation.embeddings import Change
from autodidact.evaluation.frozen import Frozen, Scaler
from autodidact.evaluation.knn import knn
from autodidact.evaluation.linear import fit_probe
from autodidact.measures.groups import ByGroup, by_group, hits, precision_at, reciprocal_ranks
from autodidact.measures.neighbours import nearest
from autodidact.views.distort import Distortion, distort

CORRUPTIONS: tuple[Distortion, ...] = ("noise", "blur", "contrast", "invert")
COPIES: tuple[Distortion, ...] = ("crop", "noise", "blur", "contrast")
NEIGHBOURS = (1, 5, 10, 50)
NAMED = 5
"""Classes that a hit is looked for among."""
CONFIDENCES = (0.1, 0.3, 0.5, 0.9)
LABELS = (1, 2, 5, 10, 20)
QUERIES = 500
"""Most images of which copies are looked for, for each kind of distortion."""


@dataclass(frozen=True)
class Sight:
    """What a protocol sees of one arm and draw.

    Attributes
    ----------
    frozen : the draw through the arm's embeddings.
    changed : from a change of images to embeddings of the test rows whose images are changed so.
    """

    frozen: Frozen
    changed: Callable[[Change], Float32[np.ndarray, "m d"]]


@dataclass(frozen=True)
class Groups:
    """Groups of the test rows.

    Attributes
    ----------
    codes : of each row, -1 where unknown.
    names : of the groups.
    least : members that a group needs to count for the worst one and the gap.
    """

    codes: Int64[np.ndarray, " m"]
    names: tuple[str, ...]
    least: int = 30


@dataclass(frozen=True)
class Truth:
    """What the test rows really are."""

    answers: Int64[np.ndarray, " m"]
    groups: Groups | None = None
    harmful: Int64[np.ndarray, " h"] | None = None
    """Classes that nothing should be taken for that is not of them."""


Look = Callable[[Sight], Any]
Score = Callable[[Any, Truth], Mapping[str, float]]


def look_at_classes(sight: Sight) -> Int64[np.ndarray, "m k"]:
    """The likeliest classes of every test row by a linear probe, the likeliest first."""
    probe = fit_probe(sight.frozen)
    # Among as many as there are a hit would be certain.
    return probe.ranked(sight.frozen.test, NAMED if len(probe.present) > NAMED else 1)


def score_groups(ranked: Int64[np.ndarray, "m k"], truth: Truth) -> dict[str, float]:
    """Accuracy by group, and where there are more classes than are named, the share of hits among those named."""
    found = _of_groups("accuracy", ranked[:, 0] == truth.answers, truth)
    if ranked.shape[1] > 1:
        found |= _of_groups(f"hit@{NAMED}", hits(ranked, truth.answers), truth)
    return found


def look_at_names(sight: Sight) -> tuple[Int64[np.ndarray, "m k"], Float64[np.ndarray, "m k"]]:
    """The likeliest classes of every test row by a linear probe, and how likely it finds each."""
    return fit_probe(sight.frozen).named(sight.frozen.test, NAMED)


def score_associations(
    named: tuple[Int64[np.ndarray, "m k"], Float64[np.ndarray, "m k"]], truth: Truth
) -> dict[str, float]:
    """Share of the rows for which a harmful class that is not theirs is named with some confidence or more; of each
    group, of the one with most, and the gap to the one with least."""
    assert truth.harmful is not None
    ranked, confident = named
    wrong = np.isin(ranked, truth.harmful) & (ranked != truth.answers[:, None])
    found: dict[str, float] = {}
    for least in CONFIDENCES:
        met = (wrong & (confident >= least)).any(axis=1)
        found[f"rate@{least:g}"] = float(met.mean())
        found |= _of_groups(f"rate@{least:g}", met, truth, worst=max)
    return found


def look_for_neighbours(sight: Sight) -> Int64[np.ndarray, "m k"]:
    """For every test row the others that are nearest to it by cosine, off the mean of the training rows."""
    rows = torch.from_numpy(_centred(sight.frozen, sight.frozen.test))
    count = min(max(NEIGHBOURS), len(rows) - 1)
    if count < 1:
        raise ValueError("neighbours are looked for among at least 2 test rows")
    _, near = nearest(rows, rows, count + 1)
    itself = near == torch.arange(len(rows))[:, None]
    # Among duplicates a row may not be its own nearest, or not be listed at all.
    itself[~itself.any(1), -1] = True
    return near[~itself].view(len(rows), count).numpy()


def score_neighbours(near: Int64[np.ndarray, "m k"], truth: Truth) -> dict[str, float]:
    """Mean precision at 1, 5, 10 and 50 neighbours, and by group where there are groups."""
    found: dict[str, float] = {}
    for k in NEIGHBOURS:
        if k > near.shape[1]:
            break
        precise = precision_at(near, truth.answers, k)
        found[f"P@{k}"] = float(precise.mean())
        if truth.groups is not None:
            found |= _of_groups(f"P@{k}", precise, truth)
    return found


def look_through_corruption(sight: Sight) -> dict[str, Int64[np.ndarray, " m"]]:
    """Classes of the test rows by kNN and by a linear probe, as they are and at every corruption and strength. Neither
    has seen a corrupted image."""
    probe = fit_probe(sight.frozen)
    said = {}
    for name, rows in (("clean", sight.frozen.test), *_corrupted(sight)):
        said[f"{name} knn"] = knn(replace(sight.frozen, test=rows))
        said[f"{name} linear"] = probe.predict(rows)
    return said


def score_each(said: Mapping[str, Int64[np.ndarray, " m"]], truth: Truth) -> dict[str, float]:
    """Accuracy of several predictions."""
    return {name: float((classes == truth.answers).mean()) for name, classes in said.items()}


def score_corruption(said: Mapping[str, Int64[np.ndarray, " m"]], truth: Truth) -> dict[str, float]:
    """Accuracy of each prediction, and the mean over all corruptions."""
    found = score_each(said, truth)
    for how in ("knn", "linear"):
        of = [value for name, value in found.items() if name.endswith(how) and not name.startswith("clean")]
        found[f"mean {how}"] = float(np.mean(of))
    return found


def look_for_copies(sight: Sight) -> dict[str, float]:
    """Mean average precision with which distorted test images are led back to the image that they are copies of, among
    all test images and the labelled and unlabelled training rows; nothing is trained."""
    frozen = sight.frozen
    bank = _centred(frozen, np.concatenate([frozen.test, frozen.labelled, frozen.unlabelled]))
    chosen = np.sort(np.random.default_rng(frozen.seed).permutation(len(frozen.test))[:QUERIES])
    found: dict[str, float] = {}
    for kind in COPIES:
        ranks = [
            reciprocal_ranks(_centred(frozen, _distorted(sight, kind, strength)[chosen]), bank, chosen).mean()
            for strength in (1, 2, 3)
        ]
        found[kind] = float(np.mean(ranks))
    return {**found, "mAP": float(np.mean(list(found.values())))}


def score_copies(found: Mapping[str, float], truth: Truth) -> dict[str, float]:
    """They are figures as they are: a copy is a copy whatever its class."""
    return dict(found)


def look_with_few_labels(sight: Sight) -> dict[str, Int64[np.ndarray, " m"]]:
    """Classes of the test rows by a linear probe on 1, 2, 5, 10 and 20 labels of each class, as far as there are."""
    frozen = sight.frozen
    answers = frozen.answers.astype(np.int64)
    rng = np.random.default_rng(frozen.seed)
    order = rng.permutation(len(answers))
    # Each row's place among those of its class: a larger number of labels holds the smaller ones.
    place = np.empty(len(answers), dtype=np.int64)
    for code in np.unique(answers):
        own = order[answers[order] == code]
        place[own] = np.arange(len(own))
    rarest = int(np.unique(answers, return_counts=True)[1].min())
    said = {}
    for count in LABELS:
        if count > rarest:
            break
        few = place < count
        draw = replace(frozen, labelled=frozen.labelled[few], answers=answers[few])
        said[f"{count} a class"] = fit_probe(draw).predict(frozen.test)
    return said


def _of_groups(
    figure: str,
    values: Bool[np.ndarray, " m"] | np.ndarray[Any, Any],
    truth: Truth,
    worst: Callable[[Iterable[float]], float] = min,
) -> dict[str, float]:
    assert truth.groups is not None
    report: ByGroup = by_group(values, truth.groups.codes, truth.groups.names, truth.groups.least)
    flagged = {
        f"{figure} {name}{f' ({report.counts[name]} only)' if name in report.few else ''}": mean
        for name, mean in report.means.items()
    }
    of = worst(mean for name, mean in report.means.items() if name not in report.few)
    return {f"{figure} worst": of, f"{figure} gap": report.gap, **flagged}


def _corrupted(sight: Sight) -> list[tuple[str, Float32[np.ndarray, "m d"]]]:
    return [(f"{kind} {strength}", _distorted(sight, kind, strength)) for kind in CORRUPTIONS for strength in (1, 2, 3)]


def _distorted(sight: Sight, kind: Distortion, strength: int) -> Float32[np.ndarray, "m d"]:
    generator = torch.Generator().manual_seed(100 * sight.frozen.seed + strength)
    return sight.changed(lambda images: distort(images, kind, strength, generator))


def _centred(frozen: Frozen, rows: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
    return np.asarray(rows - Scaler.of(frozen).mean.astype(np.float32), dtype=np.float32)
