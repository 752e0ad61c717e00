"""Transitive Invariance (49): pairs that follow from two kinds of edges teach more than both kinds side by side."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from autodidact.claims.images import Split, accuracies, fresh_encoder, split_images
from autodidact.data import Source, Store
from autodidact.data.pairs import stored_pairs
from autodidact.methods.supervised import Supervised
from autodidact.recipes.stages import Run, Site
from autodidact.recipes.transitive import Kinds, Transitive
from autodidact.training import Settings, train
from autodidact.worlds.tracks import tracks

Edges = Literal["found", "oracle", "random"]


class _Judged(Transitive):
    """With the edges that were found, with those of them that join one class, or with as many at random."""

    def __init__(self, edges_are: Edges, **options: Any) -> None:
        super().__init__(**options)
        self.edges_are = edges_are

    def edges(self, source: Source, codes: Tensor, tracks: Tensor, clusters: Tensor) -> Tensor:
        found = super().edges(source, codes, tracks, clusters)
        label = torch.from_numpy(np.asarray(source.column("label")))
        if self.edges_are == "oracle":
            return found[label[found[:, 0]] == label[found[:, 1]]]
        if self.edges_are == "random":
            drawn = torch.randint(len(label), found.shape, generator=torch.Generator().manual_seed(len(found)))
            return drawn[tracks[drawn[:, 0]] != tracks[drawn[:, 1]]].sort(dim=1).values.unique(dim=0)
        return found


def run(
    *,
    learns: Kinds | Literal["labels", "first"],
    edges: Edges = "found",
    lr: float,
    seed: int,
    data: str,
    things: int,
    views: int,
    held: int,
    size: int,
    world: Mapping[str, float],
    autoencoder_epochs: int,
    clusters: int,
    neighbours: int,
    hardest: int,
    mine_from: float,
    steps: int,
    batch: int,
    encoder: str,
) -> dict[str, float]:
    """Train on one kind of pairs, on labels, or keep the first feature; what is told apart from unseen sides.

    ``knn``, ``linear`` and ``validation`` are of other things, each seen once from any side. ``purity`` is the percent
    of inter edges of one class; ``view`` and ``view following`` the mean difference of the angle, in degrees, over
    inter edges and over the pairs that follow.
    """
    held_out = split_images(data, things, held, seed)
    filmed = tracks(held_out.train, views, size=size, seed=seed, **world)
    others = [tracks(part, 1, size=size, seed=10_000 + seed, **world) for part in (held_out.validation, held_out.test)]
    split = Split(filmed, *others)
    settings = Settings(steps=steps, batch_size=batch, lr=lr, seed=seed)
    torch.manual_seed(seed)
    if learns == "labels":
        # Two images for every pair of the others.
        settings = Settings(steps=steps, batch_size=2 * batch, lr=lr, seed=seed)
        method = Supervised(fresh_encoder(encoder, filmed, seed), schema=filmed.schema, view="none", projection=128)
        return accuracies(train(method, filmed, settings, quiet=True), split)
    with tempfile.TemporaryDirectory() as folder:
        recipe = _Judged(
            edges,
            tracks="track",
            pairs="transitive" if learns == "first" else learns,
            neighbours=neighbours,
            clusters=clusters,
            autoencoder_epochs=autoencoder_epochs,
            hardest=hardest,
            mine_from=mine_from,
            view="none",
        )
        site = Site(filmed, lambda _: fresh_encoder(encoder, filmed, seed), settings, Path(folder), quiet=True)
        stages = recipe.stages(site)
        if learns == "first":
            model: Any = Run([stage for stage in stages if stage.name == "autoencoder"], Path(folder)).result()
            return accuracies(model, split)
        model = Run(stages, Path(folder)).result()
        return {**accuracies(model, split), **graph(filmed, Store(site.at("pairs") / "store"))}


def graph(source: Source, store: Store) -> dict[str, float]:
    """Purity of the inter edges, and how far apart viewpoints are, by what only the generator knows."""
    label, angle = (np.asarray(source.column(name)) for name in ("label", "truth_angle"))
    inter, following = (stored_pairs(source, store, kind).pairs.T for kind in ("inter", "transitive"))
    return {
        "purity": 100 * float((label[inter[0]] == label[inter[1]]).mean()),
        "view": float(np.abs(angle[inter[0]] - angle[inter[1]]).mean()),
        "view following": float(np.abs(angle[following[0]] - angle[following[1]]).mean()),
    }
