"""G-SimCLR: batches whose images come from different clusters, so that fewer negatives are really positives."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch

from autodidact.catalog import Card
from autodidact.data.batching import DistinctBatching
from autodidact.data.schema import Field
from autodidact.data.store import Store, derive
from autodidact.encoders import build
from autodidact.methods.image.denoising_autoencoder import DenoisingAutoencoder
from autodidact.methods.image.simclr import SimCLR
from autodidact.model import Model
from autodidact.model.model import embed
from autodidact.recipes.stages import Recipe, Site, Stage, training
from autodidact.targets import kmeans

CARD = Card(
    name="g_simclr",
    target="GSimCLR",
    kind="recipe",
    number=60,
    title="G-SimCLR",
    paper="Chakraborty, Gosthipaty, Paul: Guided Projection via Pseudo Labelling (2009.12007, 2020)",
    summary="An autoencoder finds clusters first; then SimCLR on batches in which no two images share a cluster.",
    needs=(("image", "image"),),
    arguments=("clusters", "temperature", "fill"),
    claim="g_simclr",
    encoder="small:convnet",
)


class GSimCLR(Recipe):
    """G-SimCLR (arXiv 2009.12007): autoencoder, k-means on its code, SimCLR on guided batches.

    The effect is small by design when there are few classes: with G balanced classes and K pure clusters, the share of
    same-class negatives falls from 1/G to (K/G - 1)/(K - 1). It is large where clusters are groups of near-duplicates.
    Same-cluster negatives are also the hard ones, so removing them can cost fine distinctions.

    Parameters
    ----------
    clusters : number of k-means clusters; 0 for the batch size, as in the paper.
    autoencoder_epochs : passes of the autoencoder over the data. Paper: up to 100 with early stopping.
    noise : standard deviation of the autoencoder's input noise. Paper: 0.01.
    balanced : cap the clusters at equal size, so that guided batches never run out of clusters.
    fill : what happens when fewer clusters than a batch needs have images left: "repeat" (paper) or "drop".
    order : "shuffle" draws new batches every epoch; "paper" repeats the released code's fixed order.
    temperature : of NT-Xent. Paper: 0.1.
    hidden, dimensions : of the projector, see `SimCLR`.
    view : augmentation by name, see `SimCLR`; the paper's own recipe is "g_simclr" (no crop).
    """

    def __init__(
        self,
        *,
        clusters: int = 0,
        autoencoder_epochs: int = 5,
        noise: float = 0.01,
        balanced: bool = False,
        fill: Literal["repeat", "drop"] = "repeat",
        order: Literal["shuffle", "paper"] = "shuffle",
        temperature: float = 0.1,
        hidden: int = 0,
        dimensions: int = 128,
        view: str = "auto",
    ) -> None:
        if clusters < 0:
            raise ValueError(f"clusters must not be negative, got {clusters}")
        self.clusters, self.autoencoder_epochs, self.noise = clusters, autoencoder_epochs, noise
        self.balanced, self.fill, self.order = balanced, fill, order
        self.simclr = {"temperature": temperature, "hidden": hidden, "dimensions": dimensions, "view": view}

    def stages(self, site: Site) -> list[Stage]:
        count = self.clusters or site.settings.batch_size
        if count > len(site.source):
            raise ValueError(f"{count} clusters need as many samples; '{site.source.name}' has {len(site.source)}")

        @training
        def autoencoder(_: Mapping[str, Any]) -> Model:
            spec = site.encoder("encoder").spec
            torch.manual_seed(site.settings.seed)
            code = build(
                "small:convpool",
                schema=site.source.schema,
                image_size=spec["image_size"],
                channels=spec["channels"],
                statistics=(spec["mean"], spec["std"]),
            )
            own = dataclasses.replace(
                site.settings,
                epochs=self.autoencoder_epochs,
                steps=None,
                batch_size=min(64, site.settings.batch_size),
                accumulate=1,
                optimizer="adamw",
                lr=1e-3,
                weight_decay=0.0,
            )
            return site.train("autoencoder", DenoisingAutoencoder(code, noise=self.noise), site.source, own)

        def codes(results: Mapping[str, Any]) -> Store:
            model = results["autoencoder"]
            store = site.store("codes")
            return derive(lambda batch: {"code": embed(model, batch)}, site.source, store, batch_size=512)

        def assign(results: Mapping[str, Any]) -> Store:
            store = site.store("clusters", cluster=Field("group"))
            if len(store):
                return store
            ids = results["codes"].ids
            rows = torch.tensor(np.asarray(results["codes"].column("code")))
            generator = torch.Generator().manual_seed(site.settings.seed)
            found = kmeans(rows, count, generator=generator, balanced=self.balanced)
            store.append(ids, cluster=found.labels.long())
            return store

        @training
        def contrast(results: Mapping[str, Any]) -> Model:
            method = SimCLR(site.encoder("encoder"), **self.simclr)  # type: ignore[arg-type]
            method.batching = DistinctBatching("cluster", self.fill, self.order)
            return site.train("contrast", method, site.source.joined(results["clusters"]))

        return [
            Stage("autoencoder", autoencoder),
            Stage("codes", codes, ("autoencoder",)),
            Stage("clusters", assign, ("codes",)),
            Stage("contrast", contrast, ("clusters",)),
        ]
