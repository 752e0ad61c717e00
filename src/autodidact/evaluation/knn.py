"""Nearest neighbours: the vote of the labelled rows that look alike, with nothing trained."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int64

from autodidact.evaluation.frozen import Frozen
from autodidact.measures import knn_predict

NEIGHBOURS = 20


def knn(frozen: Frozen, *, neighbours: int = NEIGHBOURS) -> Int64[np.ndarray, " m"]:
    """Classes of the test rows by the cosine-weighted vote of their nearest labelled rows (Wu et al., 1805.01978).

    Nothing is chosen: 20 neighbours, or all labelled rows where there are fewer, weighted by exp(cosine / 0.07).
    """
    return knn_predict(
        torch.from_numpy(frozen.labelled),
        torch.from_numpy(frozen.answers.astype(np.int64)),
        torch.from_numpy(frozen.test),
        k=neighbours,
    ).numpy()
