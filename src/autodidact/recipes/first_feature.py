"""What recipes start with that look for structure first: an autoencoder, its code of every sample, clusters of that."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from autodidact.data.schema import Field
from autodidact.data.store import Store, derive
from autodidact.encoders import build
from autodidact.encoders.kept import EncoderModel, Tap
from autodidact.methods.image.denoising_autoencoder import DenoisingAutoencoder
from autodidact.model import Model
from autodidact.model.model import embed
from autodidact.recipes.stages import Site, Stage, at_once, training
from autodidact.targets import kmeans


def clustered_codes(
    site: Site, *, clusters: int, epochs: int, noise: float, balanced: bool = False, tap: Tap = None
) -> list[Stage]:
    """The stages "autoencoder" (a model), "codes" (a store with column "code") and "clusters" (with "cluster").

    Parameters
    ----------
    clusters : number of k-means clusters of the codes.
    epochs : passes of the autoencoder over the data.
    noise : standard deviation of the autoencoder's input noise.
    balanced : cap the clusters at equal size.
    tap : what of the autoencoder's encoder is the code, see `EncoderModel`; "flat" keeps where things are.

    Raises
    ------
    ValueError
        More clusters than samples, or a stream.
    """
    at_once(site.source)
    if clusters > len(site.source):
        raise ValueError(f"{clusters} clusters need as many samples; '{site.source.name}' has {len(site.source)}")

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
            epochs=epochs,
            steps=None,
            tokens=None,
            batch_size=min(64, site.settings.batch_size),
            accumulate=1,
            optimizer="adamw",
            lr=1e-3,
            weight_decay=0.0,
        )
        return site.train("autoencoder", DenoisingAutoencoder(code, noise=noise), site.source, own)

    def codes(results: Mapping[str, Any]) -> Store:
        model = EncoderModel({"encoder": results["autoencoder"].encoder}, tap=tap).eval()
        store = site.store("codes")
        return derive(lambda batch: {"code": embed(model, batch)}, site.source, store, batch_size=512)

    def assign(results: Mapping[str, Any]) -> Store:
        store = site.store("clusters", cluster=Field("group"))
        if len(store):
            return store
        ids = results["codes"].ids
        rows = torch.tensor(np.asarray(results["codes"].column("code")))
        generator = torch.Generator().manual_seed(site.settings.seed)
        found = kmeans(rows, clusters, generator=generator, balanced=balanced)
        store.append(ids, cluster=found.labels.long())
        return store

    return [
        Stage("autoencoder", autoencoder),
        Stage("codes", codes, ("autoencoder",)),
        Stage("clusters", assign, ("codes",)),
    ]
