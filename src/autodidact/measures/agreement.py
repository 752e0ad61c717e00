"""Agreement of labels: predictions with the truth, clusters with classes."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor


def accuracy(predicted: Int[Tensor, " n"], truth: Int[Tensor, " n"]) -> float:
    """Share of rows predicted right, in [0, 1].

    Raises
    ------
    ValueError
        Nothing to compare, or lengths that differ.
    """
    _check("accuracy", predicted, truth)
    return float((predicted == truth.to(predicted.device)).double().mean())


def cluster_purity(clusters: Int[Tensor, " n"], truth: Int[Tensor, " n"]) -> float:
    """Share of rows that are of their cluster's most common class, in (0, 1]. 1 is reached by singletons, too.

    Raises
    ------
    ValueError
        Nothing to compare, or lengths that differ.
    """
    _check("cluster_purity", clusters, truth)
    _, cluster = clusters.unique(return_inverse=True)
    classes, kind = truth.to(clusters.device).unique(return_inverse=True)
    counts = torch.bincount(cluster * len(classes) + kind, minlength=(int(cluster.max()) + 1) * len(classes))
    return float(counts.view(-1, len(classes)).max(1).values.sum()) / len(truth)


def _check(name: str, first: Tensor, second: Tensor) -> None:
    if first.shape != second.shape or first.ndim != 1 or len(first) == 0:
        raise ValueError(
            f"{name} needs two equally long, non-empty label vectors, "
            f"got {tuple(first.shape)} and {tuple(second.shape)}"
        )
