"""G-SimCLR (60): batches of distinct clusters hold fewer false negatives, which matters where data repeats itself."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from autodidact.claims.claim import Claim, Statement
from autodidact.claims.images import Split, accuracies, fresh_encoder, labels_of, split_images
from autodidact.data import ArraySource, Batching, DistinctBatching, Field, RandomBatching, SameBatching, Source, Store
from autodidact.data.schema import Schema
from autodidact.measures import cluster_purity
from autodidact.methods.image.simclr import SimCLR
from autodidact.recipes.g_simclr import GSimCLR
from autodidact.recipes.stages import Run, Site
from autodidact.training import Settings, train
from autodidact.views import Augment

Rule = Literal["random", "guided", "oracle", "same"]
EPOCHS_COUNTED = 3
CAMERA = {"rotate": 5.0, "translate": 0.02, "zoom": [0.95, 1.05], "jitter": [0.02, 0.02, 0.0, 0.0], "noise_std": 0.02}
"""What the camera does between frames: a little of everything, less than SimCLR's own views do."""


def lengths(takes: int, frames: int, skew: float, seed: int) -> np.ndarray:
    """Frames of every take, at least 2 and `frames` in the mean: the k-th longest has a share proportional to
    1 / k ** `skew`, in an order drawn by the seed."""
    shares = 1 / np.arange(1, takes + 1) ** skew
    found = np.maximum(2, np.round(takes * frames * shares / shares.sum())).astype(np.int64)
    return np.random.default_rng(seed).permutation(found)


def frames_of(source: Source, counts: np.ndarray, batch: int, camera: Mapping[str, Any], seed: int) -> Source:
    """Of every image as many frames as `counts` says, as of a hand-held camera: motion, drifting light, sensor noise.

    Each frame keeps the label, and has the image's number as the field "take" and that of the `batch` frames that it
    would be with if takes were not mixed as the field "block".
    """
    images = source.batch(np.arange(len(source)))["image"]
    side = images.shape[-1]
    shot: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in camera.items()}
    recorder = Augment(size=side, crop_scale=None, flip=0.0, jitter_p=1.0, **shot)
    take = np.repeat(np.arange(len(source)), counts)
    frames = recorder(images[torch.from_numpy(take)], torch.Generator().manual_seed(seed))
    schema = Schema(
        image=Field("image", tuple(images.shape[1:])),
        label=source.schema["label"],
        take=Field("group"),
        block=Field("group"),
    )
    fields: dict[str, Any] = {
        "image": (255 * frames.clamp(0, 1)).round().to(torch.uint8),
        "label": labels_of(source)[take],
        "take": take,
        "block": np.arange(len(take)) // batch,
    }
    return ArraySource(f"{source.name} frames", fields, schema, np.arange(len(take)))


def run(
    *,
    batches: Rule,
    repeated: bool,
    lr: float,
    seed: int,
    data: str,
    images: int,
    takes: int,
    frames: int,
    skew: float,
    camera: Mapping[str, Any],
    held: int,
    batch: int,
    clusters: int,
    autoencoder_epochs: int,
    seen: int,
    encoder: str,
    temperature: float,
    view: str,
) -> dict[str, float]:
    """SimCLR on batches composed by one rule; accuracies, and how often two images of a batch should not repel."""
    split = split_images(data, images, held, seed)
    source: Source = split.train
    if repeated:
        counts = lengths(takes, frames, skew, seed)
        source = frames_of(source.at(np.arange(takes)), counts, batch, camera, seed)
    settings = Settings(steps=seen // batch, batch_size=batch, lr=lr, seed=seed)
    # On plain images every image of an epoch is used, as in the paper; of long takes only what fits.
    count = clusters if repeated else batch
    fill: Literal["drop", "repeat"] = "drop" if repeated else "repeat"
    with tempfile.TemporaryDirectory() as folder:
        if batches == "guided":
            options: dict[str, Any] = {"fill": fill, "temperature": temperature, "view": view}
            recipe = GSimCLR(clusters=count, autoencoder_epochs=autoencoder_epochs, **options)
            site = Site(source, lambda _: fresh_encoder(encoder, source, seed), settings, Path(folder), quiet=True)
            torch.manual_seed(seed)
            model: Any = Run(recipe.stages(site), Path(folder)).result()
            source = source.joined(Store(site.at("clusters") / "store", name="clusters"))
            rule: Batching = DistinctBatching("cluster", fill, "shuffle")
            groups = np.asarray(source.column("cluster"))
        else:
            torch.manual_seed(seed)
            method = SimCLR(fresh_encoder(encoder, source, seed), temperature=temperature, view=view)
            truth = "take" if repeated else "label"
            kinds = {
                "random": RandomBatching(),
                "oracle": DistinctBatching(truth, fill, "shuffle"),
                "same": SameBatching("block"),
            }
            rule = method.batching = kinds[batches]
            groups = np.asarray(source.column(truth))
            model = train(method, source, settings, quiet=True)
    plans = [positions for epoch in range(EPOCHS_COUNTED) for positions in rule.plan(source, batch, epoch)]
    labels = labels_of(source)
    if repeated:
        # What is met later was taken with the same camera.
        parts = (split.train, split.validation, split.test)
        split = Split(*(frames_of(p, np.ones(len(p), np.int64), batch, camera, 10_000 + seed) for p in parts))
    figures = accuracies(model, split)
    figures["same class"] = negatives_shared(labels, plans)
    figures["purity"] = float(cluster_purity(torch.from_numpy(groups), torch.from_numpy(labels)))
    if repeated:
        figures["same take"] = negatives_shared(np.asarray(source.column("take")), plans)
    return figures


def negatives_shared(values: np.ndarray, plans: list[np.ndarray]) -> float:
    """Percent of the (anchor, negative) pairs of all batches that have the same value."""
    same = sum(float((values[p][:, None] == values[p]).sum() - len(p)) for p in plans)
    return 100 * same / sum(len(p) * (len(p) - 1) for p in plans)


NEAR = {"repeated": True}
PLAIN = {"repeated": False, "batch": 64}
"""As in the paper: batches and clusters of 64."""
CLAIM = Claim(
    name="g_simclr",
    number=60,
    statement="On data full of near-duplicates, batches of distinct clusters teach SimCLR more than random batches do.",
    run=run,
    arms={
        "guided": {"batches": "guided", **NEAR},
        "random": {"batches": "random", **NEAR},
        "oracle": {"batches": "oracle", **NEAR},
        "same takes": {"batches": "same", **NEAR},
        "guided, no repeats": {"batches": "guided", **PLAIN},
        "random, no repeats": {"batches": "random", **PLAIN},
    },
    scales={
        "laptop": {
            "data": "fashion_mnist",
            "images": 4_000,
            "takes": 256,
            "frames": 32,
            "skew": 1.6,
            "camera": CAMERA,
            "held": 4_000,
            "batch": 256,
            "clusters": 256,
            "autoencoder_epochs": 5,
            "seen": 51_200,
            "encoder": "small:convnet?width=16",
            "temperature": 0.1,
            "lr": 1e-3,
            "view": "grey",
        },
        "gpu": {
            "data": "fashion_mnist",
            "images": 50_000,
            "takes": 3_000,
            "frames": 32,
            "skew": 1.6,
            "camera": CAMERA,
            "held": 10_000,
            "batch": 256,
            "clusters": 1_024,
            "autoencoder_epochs": 20,
            "seen": 5_000_000,
            "encoder": "timm:resnet18",
            "temperature": 0.1,
            "lr": 1e-3,
            "view": "grey",
        },
        "tiny": {
            "data": "digits",
            "images": 600,
            "takes": 48,
            "frames": 8,
            "skew": 1.25,
            "camera": CAMERA,
            "held": 300,
            "batch": 16,
            "clusters": 24,
            "autoencoder_epochs": 1,
            "seen": 512,
            "encoder": "small:convnet?width=4",
            "temperature": 0.1,
            "lr": 1e-3,
            "view": "tiny",
        },
    },
    metric="knn",
    budget="{seen:,} images seen in updates of {batch} (of 64 on plain images) by every arm; the guided ones spend "
    "{autoencoder_epochs} passes of an autoencoder more",
    seeds=range(20, 30),
    few={"guided, no repeats": 5, "random, no repeats": 5},
    statements=(
        Statement(
            "gain",
            "kNN accuracy of guided minus random batches, where every image is there as many frames",
            lambda f: f["guided"]["knn"] - f["random"]["knn"],
            margin=1.0,
            role="main",
            unit="points",
        ),
        Statement(
            "gain at all",
            "the same, against no gain",
            lambda f: f["guided"]["knn"] - f["random"]["knn"],
            unit="points",
        ),
        Statement(
            "linear gain",
            "the same with a linear probe on 100 labels a class",
            lambda f: f["guided"]["linear"] - f["random"]["linear"],
            margin=1.0,
            unit="points",
        ),
        Statement(
            "room",
            "kNN accuracy of batches of truly distinct images (oracle) minus random ones: what there is to win at all",
            lambda f: f["oracle"]["knn"] - f["random"]["knn"],
            role="premise",
            unit="points",
        ),
        Statement(
            "collisions",
            "share of negatives that are frames of the anchor's own image: guided over random batches",
            lambda f: f["guided"]["same take"] / f["random"]["same take"],
            margin=1 / 3,
            direction="below",
        ),
        Statement(
            "same takes",
            "kNN accuracy of batches from few takes minus random ones: the opposite must lose",
            lambda f: f["same takes"]["knn"] - f["random"]["knn"],
            direction="below",
            role="control",
            unit="points",
        ),
        Statement(
            "no repeats",
            "kNN accuracy of guided minus random batches on plain images, clusters as many as a batch has images",
            lambda f: f["guided, no repeats"]["knn"] - f["random, no repeats"]["knn"],
            unit="points",
        ),
        Statement(
            "same class",
            "share of negatives of the anchor's own class with guided batches on plain images",
            lambda f: f["guided, no repeats"]["same class"],
            margin=9.2,
            direction="below",
            unit="percent",
        ),
    ),
    notes=(
        "The second regime that was reported on. In the first, the frames of the k-th longest take had a share "
        "proportional to 1 / k ** 1.25, and seeds 0 to 9 left the claim open: 1.10 points, 95 % interval 0.58 to 1.63, "
        "where truly distinct takes gained 1.55. So there was little more to win than the point that was asked for.",
        "The regime was then chosen on other seeds (1000 and 1001), by what truly distinct takes gain over random "
        "batches: with a camera that moves and changes more 0.2 and 1.8 points, with longer takes (1.6 in place of "
        "1.25) 2.1 and 2.7, with still longer ones (2.0) 0.9. The seeds reported are others.",
        "With 256 takes of equal length and batches of 256 truly distinct takes gain nothing (-0.3 points), since "
        "random batches then hold few near-duplicates. Where frames differ by rotations of up to 45 degrees they gain "
        "a point, but the autoencoder then finds impure clusters.",
        "Of the ten seeds one gained nothing and two half a point; the linear probe gains a point, too, its interval "
        "just reaching 0. On some seeds the autoencoder leaves more than a third of the near-duplicates together.",
        "Batches of distinct takes also show short takes as often as long ones; what that alone brings is part of the "
        "gain.",
        "On plain images nothing is to be gained, as the paper's own arithmetic says: with 64 clusters and 10 classes "
        "few false negatives can be removed.",
    ),
)
