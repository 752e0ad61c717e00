"""SimCore (38): a small set learns more from what resembles it in a large pool than from itself, or from chance."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from autodidact.claims.claim import Claim, Statement
from autodidact.claims.images import Split, accuracies, fresh_encoder, labels_of, split_images
from autodidact.data import ArraySource, Source, Store
from autodidact.data.schema import Field, Schema
from autodidact.model import Encoder
from autodidact.recipes.simcore import SimCore
from autodidact.recipes.stages import Run, Site
from autodidact.selection import Coreset
from autodidact.training import Settings
from autodidact.worlds.open_set import open_set

Choice = Literal["simcore", "none", "random", "all", "truth"]
FOOTWEAR = (5, 7, 9)
"""Sandal, sneaker and ankle boot of Fashion-MNIST; of digits the same numbers."""


class _Chosen(SimCore):
    """The selection of the method, as many by chance, everything, exactly what is relevant, or next to nothing."""

    choice: Choice = "simcore"

    def chosen(self, target: Tensor, rows: Tensor, pool: Source, generator: torch.Generator) -> tuple[Coreset, Tensor]:
        found, copies = super().chosen(target, rows, pool, generator)
        if self.choice == "simcore":
            return found, copies
        positions = {
            "none": torch.arange(0),
            "random": torch.randperm(len(pool), generator=generator)[: len(found)],
            "all": torch.arange(len(pool)),
            "truth": torch.from_numpy(np.flatnonzero(np.asarray(pool.column("truth_kind")) == 0)),
        }[self.choice]
        ones = torch.ones(len(positions))
        return Coreset(positions, ones.long(), ones, found.values, found.ended), copies


def footwear(source: Source) -> Source:
    """The images of three classes, which are numbered anew."""
    labels = labels_of(source)
    kept = source.at(np.flatnonzero(np.isin(labels, FOOTWEAR)))
    names = tuple(source.schema["label"].classes[k] for k in FOOTWEAR)
    schema = Schema(image=source.schema["image"], label=Field("label", classes=names))
    fields = {
        "image": kept.batch(np.arange(len(kept)))["image"],
        "label": np.searchsorted(FOOTWEAR, labels_of(kept)),
    }
    return ArraySource("footwear", fields, schema, kept.ids)


def run(
    *,
    choice: Choice,
    share: float,
    seed: int,
    data: str,
    images: int,
    held: int,
    targets: int,
    rows: int,
    batch: int,
    steps: int,
    retrieval_epochs: int,
    lr: float,
    clusters: int,
    patience: int,
    encoder: str,
    temperature: float,
    view: str,
    view_changes: Mapping[str, Any],
) -> dict[str, float]:
    """Pretrain on the target and what one rule chooses from a pool; accuracies on the target's classes."""
    whole = split_images(data, images, held, seed)
    shoes = footwear(whole.train)
    target, unseen = shoes.at(np.arange(targets)), shoes.at(np.arange(targets, len(shoes)))
    others = whole.train.at(np.flatnonzero(~np.isin(labels_of(whole.train), FOOTWEAR)))
    pool = open_set(unseen, others, rows, share=share, seed=seed)
    recipe = _Chosen(
        pool=pool,
        method={"name": "simclr", "temperature": temperature, "view": view, "view_changes": dict(view_changes)},
        clusters=clusters,
        patience=patience,
        retrieval_epochs=retrieval_epochs,
    )
    recipe.choice = choice
    settings = Settings(steps=steps, batch_size=batch, lr=lr, seed=seed)

    def maker(_: str, draw: int = 0) -> Encoder:
        return fresh_encoder(encoder, target, seed + 100_000 * draw)

    with tempfile.TemporaryDirectory() as folder:
        site = Site(target, maker, settings, Path(folder), quiet=True)
        model: Any = Run(recipe.stages(site), Path(folder)).result()
        store = Store(site.at("coreset") / "store")
        kinds = np.asarray(pool.only(store.ids).column("truth_kind")) if len(store) else np.zeros(0)
    split = Split(target, footwear(whole.validation), footwear(whole.test))
    return {
        **accuracies(model, split),
        "selected": float(len(kinds)),
        "precision": 100 * float((kinds == 0).mean()) if len(kinds) else 0.0,
    }


SHARED = {
    "retrieval_epochs": 40,
    "lr": 1e-3,
    "clusters": 50,
    "patience": 5,
    "temperature": 0.1,
    "view": "grey",
    "view_changes": {},
}
CLAIM = Claim(
    name="simcore",
    number=38,
    statement="Trained on what resembles it in a large pool, a small set is learned better than alone or with a random "
    "part of the pool.",
    run=run,
    arms={
        "simcore": {"choice": "simcore", "share": 0.1},
        "target only": {"choice": "none", "share": 0.1},
        "random": {"choice": "random", "share": 0.1},
        "whole pool": {"choice": "all", "share": 0.1},
        "oracle": {"choice": "truth", "share": 0.1},
        "simcore, 2 %": {"choice": "simcore", "share": 0.02},
        "simcore, 0 %": {"choice": "simcore", "share": 0.0},
    },
    scales={
        "laptop": {
            **SHARED,
            "data": "fashion_mnist",
            "images": 20_000,
            "held": 5_000,
            "targets": 600,
            "rows": 12_000,
            "batch": 128,
            "steps": 400,
            "encoder": "small:convnet?width=16",
        },
        "gpu": {
            **SHARED,
            "data": "fashion_mnist",
            "images": 50_000,
            "held": 10_000,
            "targets": 600,
            "rows": 100_000,
            "batch": 256,
            "steps": 20_000,
            "retrieval_epochs": 400,
            "encoder": "timm:resnet18",
        },
        "tiny": {
            **SHARED,
            "data": "digits",
            "images": 900,
            "held": 300,
            "targets": 64,
            "rows": 400,
            "batch": 16,
            "steps": 8,
            "retrieval_epochs": 1,
            "clusters": 8,
            "encoder": "small:convnet?width=4",
            "view": "tiny",
        },
    },
    metric="knn",
    budget="{steps:,} updates of {batch} images by every arm; {retrieval_epochs} passes over the {targets} target "
    "images before, for the model that selects",
    statements=(
        Statement(
            "gain",
            "kNN accuracy on the target's classes with the selection minus with the target alone",
            lambda f: f["simcore"]["knn"] - f["target only"]["knn"],
            margin=1.0,
            role="main",
            unit="points",
        ),
        Statement(
            "over random",
            "the same minus with about as many images of the pool by chance",
            lambda f: f["simcore"]["knn"] - f["random"]["knn"],
            role="guard",
            unit="points",
        ),
        Statement(
            "precision",
            "share of relevant images in the selection over their share of the pool",
            lambda f: f["simcore"]["precision"] / 10,
            margin=3.0,
            role="guard",
        ),
        Statement(
            "linear gain",
            "the gain with a linear probe on 100 labels a class",
            lambda f: f["simcore"]["linear"] - f["target only"]["linear"],
            unit="points",
        ),
        Statement(
            "room",
            "kNN accuracy with all that is relevant in the pool (oracle) minus with the target alone: what is to win",
            lambda f: f["oracle"]["knn"] - f["target only"]["knn"],
            role="premise",
            unit="points",
        ),
        Statement(
            "over the whole pool",
            "kNN accuracy with the selection minus with the whole pool",
            lambda f: f["simcore"]["knn"] - f["whole pool"]["knn"],
            unit="points",
        ),
        Statement(
            "more where there is more",
            "images selected where 10 % of the pool are relevant minus where 2 % are",
            lambda f: f["simcore"]["selected"] - f["simcore, 2 %"]["selected"],
        ),
        Statement(
            "fewer where there is nothing",
            "images selected where 2 % of the pool are relevant minus where none is",
            lambda f: f["simcore, 2 %"]["selected"] - f["simcore, 0 %"]["selected"],
        ),
    ),
    notes=(
        "There is no premise: even with all that is relevant in the pool the target is not learned better than alone. "
        "Three kinds of shoes in 600 images, shown in ever new crops, leave nothing to learn from more of them. The "
        "selection itself is several times richer in shoes than the pool, and training on it is better than on the "
        "whole pool. But its size does not follow what there is to find: more is taken where nothing is relevant than "
        "where 2 % is.",
        "The arm of random images was to have as many as the selection; each arm selects anew, and on the accelerator "
        "that ran them the numbers of a seed differ by up to a tenth.",
        "No error was found in the selection: on 160 random cases with a stopping rule and 160 with a budget it agrees "
        "with the authors' code, but for their random draw from the last round of a budget, and so it does with the "
        "whole rounds of a naive loop (tests/selection/test_simcore.py).",
        "No room was found on the tuning seed either with 120 to 200 images of five kinds of tops in longer trainings, "
        "by SimCLR with a convolutional network or a vision transformer, or by Barlow Twins: garments of 28 pixels are "
        "learned from few.",
        "Printed characters (`worlds/letters`) were tried next on the tuning seed, 100 or 300 as the target and ten to "
        "twenty times as many as all that is relevant, by SimCLR, Barlow Twins and MAE. One draw of 300 had room after "
        "8,000 updates of SimCLR, more than 3,000 passes over the target; another draw had little, and at 16 pixels a "
        "side there was none. The method's stop at 0.95 took in more there that is off the target than on it: in the "
        "features of so small a network everything is alike. Garments in colours that say nothing of them, 200 as the "
        "target, leave some room on the tuning seed, by nearest neighbours and not by a probe. That, photographs, and "
        "scenes of many parts are left.",
    ),
)
