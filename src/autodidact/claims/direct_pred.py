"""DirectPred (48): a linear predictor set from the statistics of its input does better than a trained one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from autodidact.claims.images import accuracies, embeddings, fresh_encoder, split_images
from autodidact.measures import Spectrum
from autodidact.methods.image.direct_pred import DirectPred, Head
from autodidact.training import Settings, train


def run(
    *,
    head: Head,
    freq: int = 1,
    momentum: float = 0.99,
    rate: float,
    seed: int,
    data: str,
    images: int,
    held: int,
    batch: int,
    seen: int,
    dimensions: int,
    encoder: str,
    view: str,
    view_changes: Mapping[str, Any],
) -> dict[str, float]:
    """Pretrain with one predictor on `seen` images; accuracies, and how far the projections of the test images spread.

    ``spread`` is the standard deviation of the projections on the unit sphere times the root of their width: 1 where
    they lie evenly, 0 where they have collapsed. ``rank`` is the centred effective rank of the embedding.
    """
    split = split_images(data, images, held, seed)
    network = fresh_encoder(encoder, split.train, seed)
    torch.manual_seed(seed)
    method = DirectPred(
        network,
        head=head,
        freq=freq,
        momentum=momentum,
        dimensions=dimensions,
        hidden=2 * dimensions,
        view=view,
        view_changes=dict(view_changes),
    )
    settings = Settings(
        steps=seen // batch, batch_size=batch, optimizer="sgd", lr=rate, weight_decay=4e-4, warmup=0.0, seed=seed
    )
    model = train(method, split.train, settings, quiet=True)
    rows = torch.from_numpy(embeddings(model, split.test))
    with torch.inference_mode():
        projections = method.eval().cpu().projector(rows)
    spread = Spectrum(normalize=True).update(projections).per_dimension_std().square().sum().sqrt()
    return {
        **accuracies(model, split),
        "spread": float(spread),
        "rank": Spectrum().update(rows).rankme(center=True),
    }
