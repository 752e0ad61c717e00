"""Barlow Twins (37): decorrelation keeps two views from collapsing, without negatives and without a teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from scipy.stats import spearmanr

from autodidact.claims.claim import Claim, Figures, Statement
from autodidact.claims.images import accuracies, embeddings, fresh_encoder, split_images
from autodidact.measures import rankme
from autodidact.methods.image.barlow_twins import BarlowTwins
from autodidact.methods.image.simclr import SimCLR
from autodidact.methods.two_views import TwoViews
from autodidact.training import Settings, train

WIDTHS = {"width 16": 16, "barlow_twins": 256, "width 1024": 1024}
TUNED = {
    "lambdas": {"low": 3.0, "middle": 12.0, "high": 48.0},
    "temperatures": {"low": 0.1, "middle": 0.2, "high": 0.5},
}
"""What is tuned beside the learning rate, three values each: lambda of Barlow Twins times the width of its projections
(the paper's 0.0051 at width 8192 is 42), so that its two terms keep their balance at any width; the
temperature of NT-Xent."""


def run(
    *,
    method: Literal["barlow_twins", "nt_xent"] = "barlow_twins",
    batch: int = 256,
    decorrelate: bool = True,
    dimensions: int = 256,
    rate: float,
    strength: Literal["low", "middle", "high"],
    seed: int,
    data: str,
    images: int,
    held: int,
    seen: int,
    encoder: str,
    lambdas: Mapping[str, float],
    temperatures: Mapping[str, float],
    view: str,
    view_changes: Mapping[str, Any],
) -> dict[str, float]:
    """Pretrain with one method on `seen` images; accuracies, and effective ranks on the test images.

    ``rank`` is that of the embedding, ``rank after`` that of the projections, which the loss acts on; both centred.
    `decorrelate` False sets lambda to 0: nothing but invariance is left.
    `rate` is the learning rate for batches of 256; smaller ones get it times the root of their share of that.
    """
    split = split_images(data, images, held, seed)
    network = fresh_encoder(encoder, split.train, seed)
    torch.manual_seed(seed)
    views = {"view": view, "view_changes": dict(view_changes)}
    made: TwoViews
    if method == "nt_xent":
        made = SimCLR(network, temperature=temperatures[strength], **views)  # type: ignore[arg-type]
    else:
        lambd = lambdas[strength] / dimensions if decorrelate else 0.0
        made = BarlowTwins(network, lambd=lambd, dimensions=dimensions, **views)  # type: ignore[arg-type]
    settings = Settings(steps=seen // batch, batch_size=batch, lr=rate * (batch / 256) ** 0.5, seed=seed)
    model = train(made, split.train, settings, quiet=True)
    rows = torch.from_numpy(embeddings(model, split.test))
    with torch.inference_mode():
        projections = made.eval().cpu().projector(rows)
    ranks = {"rank": float(rankme(rows, center=True)), "rank after": float(rankme(projections, center=True))}
    return {**accuracies(model, split), **ranks}


def _trend(figures: Figures) -> float:
    """Spearman's rank correlation of kNN accuracy with the width of the projections."""
    return float(spearmanr(list(WIDTHS.values()), [figures[arm]["knn"] for arm in WIDTHS]).statistic)


CLAIM = Claim(
    name="barlow_twins",
    number=37,
    statement="Barlow Twins learns as well as NT-Xent without negatives: decorrelation alone keeps it from collapse.",
    run=run,
    arms={
        "barlow_twins": {},
        "nt_xent": {"method": "nt_xent"},
        "invariance only": {"decorrelate": False},
        "barlow_twins, batch 32": {"batch": 32},
        "nt_xent, batch 32": {"method": "nt_xent", "batch": 32},
        "width 16": {"dimensions": 16},
        "width 1024": {"dimensions": 1024},
    },
    scales={
        "laptop": {
            "data": "fashion_mnist",
            "images": 20_000,
            "held": 4_000,
            "seen": 120_000,
            "encoder": "small:convnet?width=16",
            **TUNED,
            "view": "grey",
            "view_changes": {"blur_p": 0.0},
        },
        "gpu": {
            "data": "fashion_mnist",
            "images": 50_000,
            "held": 10_000,
            "seen": 5_000_000,
            "encoder": "timm:resnet18",
            **TUNED,
            "view": "grey",
            "view_changes": {},
        },
        "tiny": {
            "data": "digits",
            "images": 600,
            "held": 300,
            "seen": 1_024,
            "encoder": "small:convnet?width=4",
            **TUNED,
            "view": "tiny",
            "view_changes": {},
        },
    },
    metric="knn",
    budget="{seen:,} images seen by every arm, in updates of 256 or of 32 images",
    grid={"rate": [1e-3, 3e-3], "strength": ["low", "middle", "high"]},
    tunes={
        **dict.fromkeys(("invariance only", "barlow_twins, batch 32", "width 16", "width 1024"), "barlow_twins"),
        "nt_xent, batch 32": "nt_xent",
    },
    tuning_seeds=(1000,),
    statements=(
        Statement(
            "as good",
            "kNN accuracy of Barlow Twins minus that of NT-Xent, batches of 256",
            lambda f: f["barlow_twins"]["knn"] - f["nt_xent"]["knn"],
            margin=-1.5,
            role="main",
            unit="points",
        ),
        Statement(
            "collapse",
            "effective rank of the projections with Barlow Twins over that with lambda = 0, which has nothing against "
            "their collapse",
            lambda f: f["barlow_twins"]["rank after"] / f["invariance only"]["rank after"],
            margin=2.0,
            role="control",
        ),
        Statement(
            "lost to collapse",
            "kNN accuracy of Barlow Twins minus that with lambda = 0",
            lambda f: f["barlow_twins"]["knn"] - f["invariance only"]["knn"],
            margin=5.0,
            unit="points",
        ),
        Statement(
            "rank",
            "effective rank of the embedding before the projector, Barlow Twins over lambda = 0",
            lambda f: f["barlow_twins"]["rank"] / f["invariance only"]["rank"],
            margin=1.0,
        ),
        Statement(
            "as good, linear",
            "linear probe (100 labels a class) of Barlow Twins minus that of NT-Xent, batches of 256",
            lambda f: f["barlow_twins"]["linear"] - f["nt_xent"]["linear"],
            margin=-1.5,
            unit="points",
        ),
        Statement(
            "batch robustness",
            "what Barlow Twins loses from batches of 256 to batches of 32 minus what NT-Xent loses",
            lambda f: (
                (f["barlow_twins"]["knn"] - f["barlow_twins, batch 32"]["knn"])
                - (f["nt_xent"]["knn"] - f["nt_xent, batch 32"]["knn"])
            ),
            direction="below",
            unit="points",
        ),
        Statement(
            "width",
            "Spearman's correlation of kNN accuracy with the width of the projections (16, 256, 1024)",
            _trend,
        ),
    ),
    notes=(
        "With 40,000 images seen, that is 156 updates of 256, seeds 0 to 4 left the claim open (-1.9 points, 95 % "
        "interval -3.3 to -0.5), one lambda served all widths, and width 1024 was worst. The paper trains for 100 "
        "epochs and more; so the budget is three times as large here, lambda is divided by the width, and the seeds "
        "reported are others.",
        "It stays open: the gap to NT-Xent is no wider than the margin, and shrinks with the budget (-1.9 points after "
        "156 updates, -1.5 after 468). A longer training is the next thing to try.",
    ),
)
