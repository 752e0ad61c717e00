"""Groups of samples that fall into the same clusters in several clusterings, made large enough to fill batches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

_LARGEST = 2**62


def combined_code(clusterings: Sequence[Int[Tensor, " n"]], clusters: int) -> Int[Tensor, " n"]:
    """One number for the clusters of a sample in all clusterings: equal exactly where all of them agree.

    ``Y_s = Y_(s-1) * K + y_s``: the digits of the code to base K are (y_0, ..., y_s).

    Parameters
    ----------
    clusterings : of the same n samples in the same order, each in 0..clusters-1.
    clusters : K of every clustering.

    Raises
    ------
    ValueError
        No clustering, clusterings of different lengths, a cluster outside 0..K-1, or more codes than 62 bits hold.
    """
    if not clusterings:
        raise ValueError("a combined code needs at least one clustering")
    if len({len(labels) for labels in clusterings}) > 1:
        raise ValueError(f"clusterings of one set of samples, got lengths {[len(labels) for labels in clusterings]}")
    if clusters < 1 or clusters ** len(clusterings) > _LARGEST:
        raise ValueError(f"{len(clusterings)} clusterings of {clusters} clusters have no combined code of 62 bits")
    code = torch.zeros_like(clusterings[0], dtype=torch.long)
    for labels in clusterings:
        if len(labels) and not (int(labels.min()) >= 0 and int(labels.max()) < clusters):
            raise ValueError(f"clusters lie in 0..{clusters - 1}, got {int(labels.min())}..{int(labels.max())}")
        code = code * clusters + labels
    return code


def merged_groups(codes: Int[Tensor, " n"], rows: Float[Tensor, "n d"], least: int) -> Int[Tensor, " n"]:
    """Number the groups of equal code from 0, and give those that are too small to their nearest neighbour.

    The smallest group below `least` joins the group whose mean is nearest to its own, again and again until none is too
    small or one is left. Equal sizes go by number.

    Parameters
    ----------
    codes : group of each sample, any integers.
    rows : where the samples lie.
    least : samples that a group must have; 1 or less merges none.
    """
    if len(codes) != len(rows):
        raise ValueError(f"a row for each of {len(codes)} codes is needed, got {len(rows)}")
    known, group = codes.unique(return_inverse=True)
    sizes = torch.bincount(group, minlength=len(known))
    means = torch.zeros(len(known), rows.shape[1], dtype=torch.float64, device=rows.device)
    means.index_add_(0, group, rows.double()).div_(sizes[:, None])
    goes_to = torch.arange(len(known), device=codes.device)
    left = sizes > 0
    while int(left.sum()) > 1:
        smallest = int(sizes.masked_fill(~left, len(codes) + 1).argmin())
        if sizes[smallest] >= least:
            break
        left[smallest] = False
        nearest = int((means - means[smallest]).square().sum(1).masked_fill(~left, torch.inf).argmin())
        both = sizes[nearest] + sizes[smallest]
        means[nearest] += (means[smallest] - means[nearest]) * (sizes[smallest] / both)
        sizes[nearest] = both
        goes_to[goes_to == smallest] = nearest
    return goes_to[group].unique(return_inverse=True)[1]


def left_over(groups: Int[Tensor, " n"], size: int) -> int:
    """Samples that an epoch of full batches of `size` leaves out where every batch is of one group."""
    return int((torch.bincount(groups) % size).sum())
