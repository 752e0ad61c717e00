"""Mixed Barlow Twins (40): on few images and in a long training, mixed samples keep Barlow Twins from overfitting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from autodidact.claims.claim import Claim, Figures, Statement
from autodidact.claims.images import Split, accuracies, embeddings, fresh_encoder, split_images
from autodidact.data import Source
from autodidact.evaluation.curves import Curves
from autodidact.measures import rankme
from autodidact.methods.image.mixed_barlow_twins import MixedBarlowTwins
from autodidact.methods.method import Progress
from autodidact.objectives import cross_correlation, standardised
from autodidact.training import Settings, train
from autodidact.views import mix

LOOKS = (0.125, 0.25, 0.5, 0.75, 1.0)
"""Shares of the training after which kNN accuracy is measured."""


class _MixedInput(MixedBarlowTwins):
    """Barlow Twins on mixed images, without the term: both views mixed with the views of the same other image."""

    def views(self, batch: Any, progress: Progress) -> Any:
        made = super().views(batch, progress)
        order, share = made.named.pop("order"), made.named.pop("share")
        del made.named["mixed"]
        for name in ("a", "b"):
            made.named[name] = mix(made[name], made[name], order, share)
        return made

    def objective(self, z1: Any, z2: Any, views: Any, progress: Progress) -> Any:
        return self.redundancy(z1, z2), {}


def run(
    *,
    lam_reg: float,
    mixed_input: bool = False,
    longer: float = 1.0,
    short: bool = False,
    lr: float,
    seed: int,
    data: str,
    images: int,
    held: int,
    steps: int,
    short_steps: int,
    batch: int,
    encoder: str,
    dimensions: int,
    view: str,
    view_changes: Mapping[str, Any],
) -> dict[str, float]:
    """Train on few images for long; accuracies on the way and at the end, and how well the images trained on are known.

    `longer` multiplies the updates, `short` stops after `short_steps`. ``knn after X`` is the accuracy after that share
    of the training, for X in `LOOKS`; ``fall`` is the highest of them minus the last.
    """
    split = split_images(data, images, held, seed)
    network = fresh_encoder(encoder, split.train, seed)
    torch.manual_seed(seed)
    options: dict[str, Any] = {"lambd": 1 / dimensions, "dimensions": dimensions, "view": view}
    cls = _MixedInput if mixed_input else MixedBarlowTwins
    method = cls(network, lam_reg=lam_reg, view_changes=dict(view_changes), **options)
    updates = short_steps if short else round(longer * steps)
    settings = Settings(steps=updates, batch_size=batch, lr=lr, seed=seed)
    figures: dict[str, float] = {}
    with TemporaryDirectory() as folder:
        for look in LOOKS:
            model = train(method, split.train, settings, out=folder, until=look, quiet=True)
            found = accuracies(model, split, linear=look == 1.0)
            figures[f"knn after {look}"] = found["knn"]
    rows = torch.from_numpy(embeddings(model, split.test))
    path = [figures[f"knn after {look}"] for look in LOOKS]
    return {
        **found,
        **figures,
        "fall": max(path) - path[-1],
        "rank": float(rankme(rows, center=True)),
        "known": known(method, split),
    }


def known(method: MixedBarlowTwins, split: Split) -> float:
    """How much better the two views of images trained on agree than those of others, in [-2, 2].

    It is the mean of the diagonal of the cross-correlation matrix on the training images minus that on the same number
    of validation and of test images. No label is needed for it.
    """
    count = min(len(split.train), len(split.validation), len(split.test))
    own, *others = (
        float(_correlation(method, part, count).diagonal().mean())
        for part in (split.train, split.validation, split.test)
    )
    return own - float(np.mean(others))


def _correlation(method: MixedBarlowTwins, source: Source, count: int) -> torch.Tensor:
    method.eval().cpu()
    progress = Progress(0, 1, 0, torch.Generator().manual_seed(0))
    sides: dict[str, list[torch.Tensor]] = {"a": [], "b": []}
    with torch.inference_mode():
        for batch in source.at(np.arange(count)).in_order(500):
            views = method.views(batch, progress)
            for name, found in sides.items():
                found.append(method.projector(method.encoder(views[name]).pooled))
    return cross_correlation(*(standardised(torch.cat(found)) for found in sides.values()))


def path(by_seed: Sequence[Figures]) -> list[Curves]:
    """Mean accuracy over the training, for the arms of equal length."""
    lines = {
        arm: [(look, float(np.mean([f[arm][f"knn after {look}"] for f in by_seed if arm in f]))) for look in LOOKS]
        for arm in ("mixed", "barlow_twins", "barlow_twins, mixed input")
    }
    return [Curves("Accuracy on the way", "share of the training", "kNN accuracy, %", lines)]


CLAIM = Claim(
    name="mixed_barlow_twins",
    number=40,
    statement="In a long training on few images, mixed samples make Barlow Twins' features better.",
    run=run,
    arms={
        "mixed": {"lam_reg": 4.0},
        "barlow_twins": {"lam_reg": 0.0},
        "barlow_twins, equal compute": {"lam_reg": 0.0, "longer": 1.5},
        "barlow_twins, mixed input": {"lam_reg": 1.0, "mixed_input": True},
        "mixed, less": {"lam_reg": 1.0},
        "mixed, short": {"lam_reg": 4.0, "short": True},
        "barlow_twins, short": {"lam_reg": 0.0, "short": True},
    },
    scales={
        "laptop": {
            "data": "fashion_mnist",
            "images": 150,
            "held": 4_000,
            "steps": 3_200,
            "short_steps": 800,
            "batch": 128,
            "encoder": "small:convnet?width=16",
            "dimensions": 256,
            "view": "grey",
            "view_changes": {"blur_p": 0.0},
        },
        "gpu": {
            "data": "fashion_mnist",
            "images": 3_000,
            "held": 10_000,
            "steps": 20_000,
            "short_steps": 4_000,
            "batch": 256,
            "encoder": "timm:resnet18",
            "dimensions": 1_024,
            "view": "grey",
            "view_changes": {},
        },
        "tiny": {
            "data": "digits",
            "images": 300,
            "held": 300,
            "steps": 8,
            "short_steps": 2,
            "batch": 64,
            "encoder": "small:convnet?width=4",
            "dimensions": 16,
            "view": "tiny",
            "view_changes": {},
        },
    },
    metric="knn",
    budget="{steps:,} updates of {batch} images, of {images:,} in all; {short_steps:,} where short, half as many again "
    "where equal in compute",
    grid={"lr": [3e-3, 1e-2]},
    tunes={
        "mixed, short": "mixed",
        "barlow_twins, short": "barlow_twins",
        "barlow_twins, equal compute": "barlow_twins",
        "mixed, less": "mixed",
    },
    tuning_seeds=(1000,),
    seeds=range(10, 20),
    few={
        "mixed, less": 3,
        "barlow_twins, mixed input": 3,
    },
    statements=(
        Statement(
            "gain",
            "kNN accuracy of mixed minus plain Barlow Twins after the long training",
            lambda f: f["mixed"]["knn"] - f["barlow_twins"]["knn"],
            margin=1.0,
            role="main",
            unit="points",
        ),
        Statement(
            "gain for the same compute",
            "the same against plain Barlow Twins with half as many updates again",
            lambda f: f["mixed"]["knn"] - f["barlow_twins, equal compute"]["knn"],
            role="guard",
            unit="points",
        ),
        Statement(
            "by the term",
            "the same against mixed input without the term",
            lambda f: f["mixed"]["knn"] - f["barlow_twins, mixed input"]["knn"],
            unit="points",
        ),
        Statement(
            "overfitting",
            "what the longer training adds to kNN accuracy, mixed minus plain",
            lambda f: (
                (f["mixed"]["knn"] - f["mixed, short"]["knn"])
                - (f["barlow_twins"]["knn"] - f["barlow_twins, short"]["knn"])
            ),
            unit="points",
        ),
        Statement(
            "there is overfitting",
            "how much better views of training images agree than those of others, plain, long minus short",
            lambda f: f["barlow_twins"]["known"] - f["barlow_twins, short"]["known"],
            role="premise",
        ),
        Statement(
            "less of it",
            "the same after the long training, mixed minus plain",
            lambda f: f["mixed"]["known"] - f["barlow_twins"]["known"],
            direction="below",
        ),
        Statement(
            "less of a fall",
            "how far kNN accuracy falls from its highest on the way to the end, mixed minus plain",
            lambda f: f["mixed"]["fall"] - f["barlow_twins"]["fall"],
            direction="below",
            unit="points",
        ),
        Statement(
            "linear gain",
            "accuracy of a linear probe on 100 labels a class, mixed minus plain",
            lambda f: f["mixed"]["linear"] - f["barlow_twins"]["linear"],
            unit="points",
        ),
        Statement(
            "rank",
            "effective rank of the embeddings, mixed minus plain",
            lambda f: f["mixed"]["rank"] - f["barlow_twins"]["rank"],
        ),
        Statement(
            "rank for the same compute",
            "the same, against plain Barlow Twins with half as many updates again",
            lambda f: f["mixed"]["rank"] - f["barlow_twins, equal compute"]["rank"],
        ),
    ),
    draws=path,
    notes=(
        "The experiment was first run on 500 images for 6,400 updates: mixed was ahead by 1.0 [0.6, 1.5] points "
        "against a margin of 1 on 8 seeds, and its premise was not met, since the distance of whole cross-correlation "
        "matrices is mostly chance. On the tuning seed fewer images made the effect larger, so it was run again, on "
        "new seeds, with 150 images, and with a premise that looks at the diagonals only.",
        "On 500 images the gain was held against mixed input without the term, and so was what the longer training "
        "adds; on 150, where mixed input has 3 seeds, neither is. Probe and rank were added once the figures were "
        "known.",
        "With five seeds main statement and guard were open by little, so ten were decided on; the intervals take no "
        "account of that. The gain is above 0, whether it is above a whole point ten seeds do not tell. At equal "
        "compute it is above 0 by next to nothing, and nothing says that it is larger after a long training than "
        "after a short one.",
        "No error was found: the loss is that of the authors' code to 5e-11 in float64, with unit length and unbiased "
        "variance (tests/objectives/test_mixing.py), which no arm here has. Other conditions of the paper that are "
        "missing: whole sets of colour images, residual networks, and projections of 1,024 numbers.",
    ),
)
