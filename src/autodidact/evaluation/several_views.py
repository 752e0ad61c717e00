"""Embeddings of several random views of the same images, and what they say of a model without labels."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from autodidact.data.folder import evenly
from autodidact.data.source import Source
from autodidact.encoders.image import ImageEncoder
from autodidact.encoders.kept import EncoderModel, read_out
from autodidact.measures import lidar, view_retrieval
from autodidact.methods.two_views import augment_for
from autodidact.model import Model


def _lidar(rows: Float[Tensor, "n q d"]) -> float:
    """LiDAR, and 0 where all embeddings are the same: a collapse is the worst that can be said of a model."""
    return lidar(rows) if bool((rows != rows[:1, :1]).any()) else 0.0


JUDGES = {"retrieval": view_retrieval, "lidar": _lidar}
"""Figures of the views; the higher, the better."""
SEEN, VIEWS = 500, 10
"""Images, and random views of each, that are looked at."""


def of_views(model: Model, source: Source, *, device: torch.device | str = "cpu") -> dict[str, float]:
    """Each of `JUDGES`; nothing where the model does not embed images by one encoder, or there is a single image."""
    if not isinstance(model, EncoderModel) or not isinstance(model.encoder, ImageEncoder) or len(source) < 2:
        return {}
    rows = embedded_views(model, source, device=device)
    return {name: judge(rows) for name, judge in JUDGES.items()}


def embedded_views(
    model: EncoderModel, source: Source, *, device: torch.device | str = "cpu"
) -> Float[Tensor, "samples views d"]:
    """A model's embeddings of `VIEWS` random views of up to `SEEN` images, evenly spaced: the same views of the same
    images for every model. The model is back on the CPU afterwards."""
    model.eval().to(device)
    augment = augment_for(model.encoder, "auto")
    generator = torch.Generator().manual_seed(0)
    field = model.encoder.spec.get("field", "image")
    parts = []
    with torch.inference_mode():
        for batch in source.at(np.asarray(evenly(len(source), SEEN))).in_order(100):
            moved = batch.to(device)
            seen = [augment(moved[field], generator, moved.get("box")) for _ in range(VIEWS)]
            parts.append(
                torch.stack([model.joined([read_out(model.encoder, view, model.tap)]) for view in seen], dim=1)
            )
    model.cpu()
    return torch.cat(parts).cpu()
