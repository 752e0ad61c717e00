"""Triplets by cosine distance over pairs of a batch, with the hardest of the permitted negatives."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from autodidact.objectives.embeddings import check_views, full_precision, full_precision_region, unit_rows
from autodidact.objectives.shards import gathered, mean_over_processes, shard_sizes, summed, world_size


class TripletLoss(NamedTuple):
    """What `pair_triplets` found.

    Attributes
    ----------
    total : the mean over the triplets.
    active : share of the triplets whose margin is not kept, the only ones with a gradient.
    left_out : share of the anchors without a permitted negative, which are in no triplet.
    """

    total: Float[Tensor, ""]
    active: Float[Tensor, ""]
    left_out: Float[Tensor, ""]


def pair_triplets(
    z1: Float[Tensor, "n d"],
    z2: Float[Tensor, "n d"],
    marks1: Int[Tensor, "n c"],
    marks2: Int[Tensor, "n c"],
    *,
    margin: float = 0.5,
    hardest: int | None = 4,
    semi_hard: bool = False,
    gather: bool = True,
) -> TripletLoss:
    r"""Ranking loss of Transitive Invariance (1708.02901, section 3.3) on pairs that belong together.

    With :math:`D(x, y) = 1 - \cos(x, y)` in [0, 2], for both ends of each pair as the anchor x, the other end as its
    positive p and negatives n among all ends of all pairs::

        L = mean of max(0, D(x, p) - D(x, n) + margin)

    Parameters
    ----------
    z1, z2 : tensors of shape (n, d)
        The two ends of each pair; L2-normalised here.
    marks1, marks2 : integer tensors of shape (n, c)
        What the ends belong to, such as parent cluster and track. Only what differs in every mark from both ends of a
        pair is a negative of it.
    margin : float
        By which a negative must be farther than the positive, > 0. Paper: 0.5.
    hardest : int or None
        Negatives an anchor, those with the largest loss, i.e. the nearest; None for all.
    semi_hard : bool
        Only negatives that are farther than the positive (FaceNet, 1503.03832).
    gather : bool
        Under a process group, negatives come from the pairs of all processes, with gradient; `total` is the mean over
        the triplets of all processes.

    Raises
    ------
    ValueError
        margin <= 0, hardest < 1, ends or marks that differ in shape, NaN or infinite values.
    """
    check_views("pair_triplets", z1, z2)
    if not margin > 0:
        raise ValueError(f"pair_triplets: margin must be positive, got {margin}")
    if hardest is not None and hardest < 1:
        raise ValueError(f"pair_triplets: hardest must be at least 1 (or None for all negatives), got {hardest}")
    if marks1.ndim != 2 or marks1.shape != marks2.shape or len(marks1) != len(z1):
        raise ValueError(
            f"pair_triplets: {len(z1)} pairs need as many marks of both ends, got {tuple(marks1.shape)} and "
            f"{tuple(marks2.shape)}"
        )
    with full_precision_region(z1.device):
        z, marks = unit_rows(full_precision(torch.cat([z1, z2]))), torch.cat([marks1, marks2])
        sizes = shard_sizes(len(z), z.device, gather)
        pool, pool_marks = torch.cat(gathered(z, sizes)), torch.cat(gathered(marks, sizes))
        positive = (1 - (z * z.roll(len(z1), 0)).sum(1))[:, None]
        distance = 1 - z @ pool.T
        permitted = strangers(marks1, marks2, pool_marks).repeat(2, 1)
        if semi_hard:
            permitted = permitted & (distance > positive).detach()
        if hardest is not None and hardest < len(pool):
            chosen = distance.detach().masked_fill(~permitted, math.inf).topk(hardest, dim=1, largest=False).indices
            distance, permitted = distance.gather(1, chosen), permitted.gather(1, chosen)
        losses = (positive - distance + margin).clamp(min=0).where(permitted, 0.0)
        tallies = [permitted.sum(), (losses > 0).sum(), (~permitted.any(1)).sum(), torch.tensor(len(z)).to(z.device)]
        triplets, active, lonely, anchors = summed(torch.stack(tallies).to(z.dtype), gather).unbind()
        total = mean_over_processes(losses.sum() * (world_size(gather) / triplets.clamp(min=1)), gather)
        return TripletLoss(total, active / triplets.clamp(min=1), lonely / anchors)


def strangers(
    marks1: Int[Tensor, "n c"], marks2: Int[Tensor, "n c"], others: Int[Tensor, "m c"]
) -> Bool[Tensor, "n m"]:
    """Which of the others differ from both ends of a pair in every mark."""
    return ((marks1[:, None] != others) & (marks2[:, None] != others)).all(2)
