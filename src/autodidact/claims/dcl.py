"""DCL (18): without the positive in its denominator, the contrastive loss learns more from small batches."""

from __future__ import annotations

from typing import Any, Literal

import torch

from autodidact.claims.claim import Claim, Statement
from autodidact.claims.images import accuracies, fresh_encoder, split_images
from autodidact.methods.image.dcl import DCL
from autodidact.methods.image.simclr import SimCLR
from autodidact.methods.method import Loss, Progress, Views
from autodidact.methods.two_views import TwoViews
from autodidact.objectives import coupling
from autodidact.training import Settings, train

EVERY = 20


class _Watched(TwoViews):
    """Keeps the mean coupling q of every 20th batch, whatever the loss."""

    temperature: float

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seen: list[float] = []

    def loss(self, views: Views, progress: Progress) -> Loss:
        loss = super().loss(views, progress)
        if progress.step % EVERY == 0:
            q = coupling(loss.watch["projection"], loss.watch["projection_b"], self.temperature)
            self.seen.append(float(q.mean()))
        return loss


class _NTXent(_Watched, SimCLR):
    pass


class _DCL(_Watched, DCL):
    pass


LOSSES = {"nt_xent": _NTXent, "dcl": _DCL}


def run(
    *,
    loss: Literal["nt_xent", "dcl"],
    batch: int,
    rate: float,
    seed: int,
    data: str,
    images: int,
    held: int,
    seen: int,
    encoder: str,
    temperature: float,
    view: str,
    view_changes: dict[str, Any],
) -> dict[str, float]:
    """Pretrain with one of the two losses on `seen` images in batches of `batch`; accuracies and q.

    `rate` is the learning rate for batches of 16; larger ones get it times the root of how many times they are larger.
    """
    split = split_images(data, images, held, seed)
    network = fresh_encoder(encoder, split.train, seed)
    torch.manual_seed(seed)
    method = LOSSES[loss](network, temperature=temperature, view=view, view_changes=view_changes)
    settings = Settings(
        steps=seen // batch,
        batch_size=batch,
        optimizer="sgd",
        lr=rate * (batch / 16) ** 0.5,
        weight_decay=5e-4,
        seed=seed,
    )
    model = train(method, split.train, settings, quiet=True)
    tenth = max(1, len(method.seen) // 10)
    return {
        **accuracies(model, split),
        "q_first": sum(method.seen[:tenth]) / tenth,
        "q_last": sum(method.seen[-tenth:]) / tenth,
    }


CLAIM = Claim(
    name="dcl",
    number=18,
    statement="With small batches, DCL learns better features than NT-Xent does, each at its own best learning rate.",
    run=run,
    arms={
        "dcl, batch 16": {"loss": "dcl", "batch": 16},
        "nt_xent, batch 16": {"loss": "nt_xent", "batch": 16},
        "dcl, batch 256": {"loss": "dcl", "batch": 256},
        "nt_xent, batch 256": {"loss": "nt_xent", "batch": 256},
    },
    scales={
        "laptop": {
            "data": "fashion_mnist",
            "images": 10_000,
            "held": 4_000,
            "seen": 40_000,
            "encoder": "small:convnet?width=16",
            "temperature": 0.05,
            "view": "grey",
            "view_changes": {"crop_scale": [0.75, 1.0], "jitter": [0.4, 0, 0, 0], "blur_p": 0.0, "erase_p": 0.0},
        },
        "gpu": {
            "data": "fashion_mnist",
            "images": 50_000,
            "held": 10_000,
            "seen": 5_000_000,
            "encoder": "timm:resnet18",
            "temperature": 0.07,
            "view": "grey",
            "view_changes": {},
        },
        "tiny": {
            "data": "digits",
            "images": 600,
            "held": 300,
            "seen": 1_024,
            "encoder": "small:convnet?width=4",
            "temperature": 0.05,
            "view": "tiny",
            "view_changes": {},
        },
    },
    metric="knn",
    budget="{seen:,} images seen by every arm, in updates of 16 or of 256 images",
    grid={"rate": [0.01, 0.03, 0.1]},
    seeds=range(20),
    statements=(
        Statement(
            "gain",
            "kNN accuracy of DCL minus that of NT-Xent, batches of 16",
            lambda f: f["dcl, batch 16"]["knn"] - f["nt_xent, batch 16"]["knn"],
            role="main",
            unit="points",
        ),
        Statement(
            "linear gain",
            "the same with a linear probe on 100 labels a class",
            lambda f: f["dcl, batch 16"]["linear"] - f["nt_xent, batch 16"]["linear"],
            unit="points",
        ),
        Statement(
            "gain at 256",
            "kNN accuracy of DCL minus that of NT-Xent, batches of 256",
            lambda f: f["dcl, batch 256"]["knn"] - f["nt_xent, batch 256"]["knn"],
            unit="points",
        ),
        Statement(
            "flatter",
            "what DCL loses from batches of 256 to batches of 16 minus what NT-Xent loses",
            lambda f: (
                (f["dcl, batch 256"]["knn"] - f["dcl, batch 16"]["knn"])
                - (f["nt_xent, batch 256"]["knn"] - f["nt_xent, batch 16"]["knn"])
            ),
            direction="below",
            unit="points",
        ),
        Statement(
            "coupling",
            "the mechanism: mean coupling q of NT-Xent at the end, batches of 256 minus batches of 16",
            lambda f: f["nt_xent, batch 256"]["q_last"] - f["nt_xent, batch 16"]["q_last"],
            margin=0.1,
            role="premise",
        ),
        Statement(
            "falling coupling",
            "the mechanism: mean coupling q of NT-Xent with batches of 16, end of training minus beginning",
            lambda f: f["nt_xent, batch 16"]["q_last"] - f["nt_xent, batch 16"]["q_first"],
            margin=-0.1,
            direction="below",
            role="premise",
        ),
    ),
)
