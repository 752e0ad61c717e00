"""Nearest neighbours: the vote of the labelled rows that look alike, with nothing trained."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int64

from autodidact.evaluation.frozen import Frozen, Scaler
from autodidact.measures import knn_predict

NEIGHBOURS = 20


def knn(frozen: Frozen, *, neighbours: int = NEIGHBOURS) -> Int64[np.ndarray, " m"]:
    """Classes of the test rows by the cosine-weighted vote of their nearest labelled rows (Wu et al., 1805.01978).

    Nothing is chosen: 20 neighbours, or all labelled rows where there are fewer, weighted by exp(cosine / 0.07).
    Different from the paper, the mean of the training rows is taken off first. Embeddings of many methods share a large
    constant part, beside which all cosines are nearly 1 and all votes count the same.
    """
    mean = Scaler.of(frozen).mean.astype(np.float32)
    return knn_predict(
        torch.from_numpy(frozen.labelled - mean),
        torch.from_numpy(frozen.answers.astype(np.int64)),
        torch.from_numpy(frozen.test - mean),
        k=neighbours,
    ).numpy()
