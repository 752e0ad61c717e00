"""LOOK (29): pretraining through nearest neighbours spares the sub-classes that coarse labels hide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch

from autodidact.claims.images import Split, accuracies, embeddings, fresh_encoder, labels_of, split_images
from autodidact.data import Field, Source, Store
from autodidact.measures import rankme
from autodidact.methods.image.look import LOOK
from autodidact.methods.image.simclr import SimCLR
from autodidact.methods.method import Method
from autodidact.methods.supervised import Supervised
from autodidact.objectives.neighbours import Sum
from autodidact.training import Settings, train


def coarse(source: Source, groups: Sequence[int]) -> Source:
    """The source with its label replaced by the group of the label: class c belongs to ``groups[c]``."""
    names = source.schema["label"].classes
    classes = tuple(
        " or ".join(names[c] for c, own in enumerate(groups) if own == group) for group in range(max(groups) + 1)
    )
    store = Store(name="groups", schema={"label": Field("label", classes=classes)})
    store.append(source.ids, label=np.asarray(groups)[labels_of(source)])
    return source.joined(store)


def merged(groups: Sequence[int] | int, classes: int, seed: int) -> list[int]:
    """The group of every class: as given, or so many groups of equal size drawn by the seed."""
    if not isinstance(groups, int):
        return list(groups)
    return (np.random.default_rng([seed, 29]).permutation(classes) % groups).tolist()


def run(
    *,
    loss: Literal["neighbours", "cross-entropy", "simclr"],
    neighbours: int = 0,
    positives: Sum = "inside",
    leave_one_out: bool = True,
    projected: bool = True,
    fine: bool = False,
    lr: float,
    seed: int,
    data: str,
    groups: Sequence[int] | int,
    images: int,
    held: int,
    steps: int,
    batch: int,
    encoder: str,
    dimensions: int,
    momentum: float,
    temperature: float,
    view: str,
    view_changes: dict[str, Any],
) -> dict[str, float]:
    """Pretrain on coarse labels (on the fine ones with `fine`) by one loss; what the frozen encoder tells apart.

    ``knn``, ``linear`` and ``validation`` are of the fine classes, ``coarse`` of the groups. ``within`` is the share
    of the embeddings' variance that lies inside the groups, ``rank`` their effective rank (RankMe).
    """
    split = split_images(data, images, held, seed)
    of = merged(groups, len(split.train.schema["label"].classes), seed)
    grouped = Split(*(coarse(part, of) for part in (split.train, split.validation, split.test)))
    source = split.train if fine else grouped.train
    network = fresh_encoder(encoder, source, seed)
    torch.manual_seed(seed)
    shown: dict[str, Any] = {"view": view, "view_changes": view_changes}
    method: Method
    if loss == "cross-entropy":
        method = Supervised(network, schema=source.schema, projection=dimensions if projected else 0, **shown)
    elif loss == "simclr":
        method = SimCLR(network, dimensions=dimensions, temperature=temperature, **shown)
    else:
        method = LOOK(
            network,
            samples=len(source),
            neighbours=neighbours,
            positives=positives,
            leave_one_out=leave_one_out,
            momentum=momentum,
            temperature=temperature,
            dimensions=dimensions,
            **shown,
        )
    model = train(method, source, Settings(steps=steps, batch_size=batch, lr=lr, seed=seed), quiet=True)
    rows = embeddings(model, split.train)
    return {
        **accuracies(model, split),
        "coarse": accuracies(model, grouped, linear=False)["knn"],
        "within": 100 * within_share(rows, labels_of(grouped.train)),
        "rank": float(rankme(torch.from_numpy(rows))),
    }


def within_share(rows: np.ndarray, labels: np.ndarray) -> float:
    """Share of the rows' variance that is left around the mean of their class, in [0, 1]."""
    means = np.stack([rows[labels == c].mean(0) for c in range(labels.max() + 1)])
    return float(np.square(rows - means[labels]).sum() / np.square(rows - rows.mean(0)).sum())
