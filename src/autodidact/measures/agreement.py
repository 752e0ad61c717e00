"""Agreement: of predictions with the truth, of clusters with classes, of one ranking with another."""

from __future__ import annotations

from collections.abc import Sequence

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


def rank_correlation(first: Sequence[int | float], second: Sequence[int | float]) -> float:
    """Spearman's rank correlation, in [-1, 1]; 0 where one side is constant, since it then orders nothing.

    Raises
    ------
    ValueError
        Fewer than two values, or lengths that differ.
    """
    from scipy.stats import spearmanr

    if len(first) != len(second) or len(first) < 2:
        raise ValueError(f"rank_correlation needs two equally long lists of 2 or more, got {len(first)}, {len(second)}")
    if min(len(set(first)), len(set(second))) < 2:
        return 0.0
    return float(spearmanr(first, second).statistic)


def _check(name: str, first: Tensor, second: Tensor) -> None:
    if first.shape != second.shape or first.ndim != 1 or len(first) == 0:
        raise ValueError(
            f"{name} needs two equally long, non-empty label vectors, "
            f"got {tuple(first.shape)} and {tuple(second.shape)}"
        )
