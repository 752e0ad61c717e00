"""Mixed Barlow Twins (40): with mixed images, long training on few images does not overfit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch

from autodidact.claims.claim import Claim, Statement
from autodidact.claims.images import Split, accuracies, embeddings, fresh_encoder, split_images
from autodidact.data import Source
from autodidact.data.batch import Batch
from autodidact.measures import rankme
from autodidact.methods.image.mixed_barlow_twins import MixedBarlowTwins
from autodidact.methods.method import Progress, Views
from autodidact.objectives import cross_correlation, standardised
from autodidact.training import Settings, train
from autodidact.views import draw_mixing, mix

LOOKS = 8
"""How often a training is looked at, the last time at its end."""
TUNED = {
    "lambdas": {"low": 1.0, "middle": 4.0, "high": 16.0},
    "weights": {"low": 1.0, "middle": 2.0, "high": 4.0},
}
"""What is tuned, three values each: lambda of Barlow Twins times the width of its projections (the paper's settings for
small data are 8 and 1); for Mixed Barlow Twins the weight of its term, at the middle lambda."""


class _Watched(MixedBarlowTwins):
    """Keeps the kNN accuracy on validation images along the way; `input_mixup` trains on mixtures, without the term."""

    def __init__(self, *args: Any, input_mixup: bool, split: Split, looks: set[int], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.input_mixup, self.split, self.looks = input_mixup, split, looks
        self.curve: list[float] = []

    def views(self, batch: Batch, progress: Progress) -> Views:
        made = super().views(batch, progress)
        if self.input_mixup:
            order, share = draw_mixing(len(made["a"]), progress.generator)
            made.named |= {name: mix(made[name], made[name], order, share) for name in ("a", "b")}
        return made

    def after_update(self, progress: Progress) -> None:
        super().after_update(progress)
        if progress.step + 1 in self.looks:
            self.curve.append(accuracies(self.kept(), self.split, linear=False)["validation"])
            self.train()


def run(
    *,
    method: Literal["barlow_twins", "input_mixup", "mixed"],
    longer: float = 1.0,
    strength: Literal["low", "middle", "high"],
    seed: int,
    data: str,
    images: int,
    held: int,
    batch: int,
    seen: int,
    rate: float,
    dimensions: int,
    encoder: str,
    lambdas: Mapping[str, float],
    weights: Mapping[str, float],
    view: str,
    view_changes: Mapping[str, Any],
) -> dict[str, float]:
    """Pretrain on few images for long; accuracies at the end, and what was lost since the best look.

    ``drop`` is the best kNN accuracy on validation images along the way minus that at the end. ``overfit`` is the root
    mean square difference between the entries of the cross-correlation of training pairs and of as many test pairs,
    ``rank`` the centred effective rank of the embedding of test images.
    """
    split = split_images(data, images, held, seed)
    network = fresh_encoder(encoder, split.train, seed)
    torch.manual_seed(seed)
    steps = round(longer * seen) // batch
    mixed = method == "mixed"
    made = _Watched(
        network,
        lam_reg=weights[strength] if mixed else 0.0,
        lambd=lambdas["middle" if mixed else strength] / dimensions,
        dimensions=dimensions,
        view=view,
        view_changes=dict(view_changes),
        input_mixup=method == "input_mixup",
        split=split,
        looks={round(steps * look / LOOKS) for look in range(1, LOOKS + 1)},
    )
    model = train(made, split.train, Settings(steps=steps, batch_size=batch, lr=rate, seed=seed), quiet=True)
    made.eval().cpu()
    apart = _correlation(made, split.train, images) - _correlation(made, split.test, images)
    return {
        **accuracies(model, split),
        "drop": max(made.curve) - made.curve[-1],
        "overfit": float(apart.square().mean().sqrt()),
        "rank": rankme(torch.from_numpy(embeddings(model, split.test)), center=True),
    }


@torch.inference_mode()
def _correlation(method: _Watched, source: Source, count: int) -> torch.Tensor:
    """Cross-correlation of the two views of `count` images, the statistics of batch norms being fixed."""
    rows = Progress(0, 1, 0, torch.Generator().manual_seed(0))
    drawn = torch.arange(min(count, len(source))).numpy()
    views = MixedBarlowTwins.views(method, source.batch(drawn), rows)
    a, b = (standardised(method.projector(method.encoder(views[name]).pooled)) for name in ("a", "b"))
    return cross_correlation(a, b)
