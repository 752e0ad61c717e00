"""G-SimCLR: batches whose images come from different clusters, so that fewer negatives are really positives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from autodidact.catalog import Card
from autodidact.data.batching import DistinctBatching
from autodidact.methods.image.simclr import SimCLR
from autodidact.model import Model
from autodidact.recipes.first_feature import clustered_codes
from autodidact.recipes.stages import Recipe, Site, Stage, training

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

        @training
        def contrast(results: Mapping[str, Any]) -> Model:
            method = SimCLR(site.encoder("encoder"), **self.simclr)  # type: ignore[arg-type]
            method.batching = DistinctBatching("cluster", self.fill, self.order)
            return site.train("contrast", method, site.source.joined(results["clusters"]))

        first = clustered_codes(
            site, clusters=count, epochs=self.autoencoder_epochs, noise=self.noise, balanced=self.balanced
        )
        return [*first, Stage("contrast", contrast, ("clusters",))]
