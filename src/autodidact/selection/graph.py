"""A graph over samples in tracks: edges inside a track, edges between look-alikes of two tracks, and what follows."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_BLOCK = 2048


def partners(tracks: Int[Tensor, " n"], generator: torch.Generator) -> Int[Tensor, " n"]:
    """Of each sample another one of its track, drawn uniformly; -1 where it is alone.

    Parameters
    ----------
    tracks : the track (video of one instance) of every sample.
    generator : the only source of randomness.
    """
    # In random order within each track, everyone takes one of those behind, cyclically, at a distance of its own.
    order = torch.rand(len(tracks), generator=generator, dtype=torch.float64).argsort()
    order = order[tracks[order].argsort(stable=True)]
    _, which, sizes = tracks[order].unique(return_inverse=True, return_counts=True)
    first = (sizes.cumsum(0) - sizes)[which]
    others = sizes[which] - 1
    step = 1 + (torch.rand(len(tracks), generator=generator, dtype=torch.float64) * others).long()
    place = torch.arange(len(tracks)) - first
    found = order[first + (place + step) % sizes[which]]
    drawn = torch.empty_like(found)
    drawn[order] = found.where(others > 0, -1)
    return drawn


def mutual_neighbours(
    features: Float[Tensor, "n d"],
    tracks: Int[Tensor, " n"],
    clusters: Int[Tensor, " n"],
    *,
    k: int,
    least: float = -1.0,
) -> Int[Tensor, "edges 2"]:
    """Pairs of samples of two tracks that are each among the other's k nearest, inside a cluster.

    The inter-instance edges of Transitive Invariance (1708.02901, section 3.2), where the paper clusters a second time
    inside each parent cluster and links what falls together. Being mutual bounds the number of edges of a sample by k,
    so no sample that is near to everything becomes a hub.

    Parameters
    ----------
    features : compared by cosine; a row of zeros is near to nothing.
    tracks : samples of one track are never linked.
    clusters : parent cluster of every sample; neighbours are sought inside it only.
    k : neighbours, >= 1; a cluster with fewer samples gives fewer.
    least : smallest cosine of a pair, in [-1, 1].

    Returns
    -------
    tensor of shape (edges, 2)
        Positions, the smaller first, in ascending order; each pair once.

    Raises
    ------
    ValueError
        k < 1, columns that differ in length, NaN or infinite values.
    """
    _check(features, tracks, clusters, k)
    unit = torch.nn.functional.normalize(features if features.dtype == torch.float64 else features.float(), dim=1)
    edges = [torch.zeros(0, 2, dtype=torch.long)]
    for cluster in clusters.unique().tolist():
        members = (clusters == cluster).nonzero().flatten()
        near = _near(unit[members], tracks[members], k, least)
        # Pairs are coded as one number, so that those that occur in both directions are found by counting.
        low, high = members[near].sort(dim=1).values.unbind(1)
        code, count = (low * len(features) + high).unique(return_counts=True)
        edges.append(torch.stack([code // len(features), code % len(features)], dim=1)[count == 2])
    found = torch.cat(edges)
    return found[(found[:, 0] * len(features) + found[:, 1]).argsort()]


def _near(rows: Float[Tensor, "m d"], tracks: Int[Tensor, " m"], k: int, least: float) -> Int[Tensor, "pairs 2"]:
    """(row, neighbour) for the at most k nearest rows of other tracks."""
    found = [torch.zeros(0, 2, dtype=torch.long)]
    for start in range(0, len(rows), _BLOCK):
        cosine = rows[start : start + _BLOCK] @ rows.T
        barred = (tracks[start : start + _BLOCK, None] == tracks) | (cosine < least)
        barred |= (rows[start : start + _BLOCK] == 0).all(1)[:, None] | (rows == 0).all(1)
        best = cosine.masked_fill(barred, -torch.inf).topk(min(k, len(rows)), dim=1)
        row, place = best.values.isfinite().nonzero().unbind(1)
        found.append(torch.stack([row + start, best.indices[row, place]], dim=1))
    return torch.cat(found)


def transitive_pairs(
    edges: Int[Tensor, "edges 2"], partner: Int[Tensor, " n"]
) -> tuple[Int[Tensor, "intra 2"], Int[Tensor, "transitive 2"]]:
    """What follows from A - B together with A - A' and B - B': the pairs A - B', A' - B and A' - B'.

    Parameters
    ----------
    edges : inter-instance edges, of samples of two tracks.
    partner : another sample of each one's track, -1 where there is none (see `partners`).

    Returns
    -------
    intra : the pairs A - A' and B - B' that were used, each once.
    transitive : the pairs that follow, each once, without those that are edges already.
    """
    a, b = edges.unbind(1)
    other_a, other_b = partner[a], partner[b]
    intra = torch.cat([torch.stack([a, other_a], 1), torch.stack([b, other_b], 1)])
    following = torch.cat(
        [torch.stack([a, other_b], 1), torch.stack([other_a, b], 1), torch.stack([other_a, other_b], 1)]
    )
    following = distinct_pairs(following)
    return distinct_pairs(intra), following[~_among(following, edges)]


def distinct_pairs(pairs: Int[Tensor, "pairs 2"]) -> Int[Tensor, "distinct 2"]:
    """Each unordered pair once, the smaller position first, ascending; pairs with -1 or of one sample fall away."""
    kept = pairs[(pairs >= 0).all(1) & (pairs[:, 0] != pairs[:, 1])]
    return kept.sort(dim=1).values.unique(dim=0)


def _among(pairs: Int[Tensor, "pairs 2"], others: Int[Tensor, "others 2"]) -> Bool[Tensor, " pairs"]:
    size = int(max(pairs.max(), others.max())) + 1 if len(pairs) else 1
    others = others.sort(dim=1).values
    return torch.isin(pairs[:, 0] * size + pairs[:, 1], others[:, 0] * size + others[:, 1])


def _check(features: Tensor, tracks: Tensor, clusters: Tensor, k: int) -> None:
    if k < 1:
        raise ValueError(f"mutual_neighbours: k must be at least 1, got {k}")
    for name, column in (("tracks", tracks), ("clusters", clusters)):
        if column.shape != features.shape[:1]:
            raise ValueError(f"mutual_neighbours: {len(features)} rows need as many {name}, got {tuple(column.shape)}")
    if not torch.isfinite(features).all():
        raise ValueError("mutual_neighbours: features hold NaN or infinite values, their neighbours are not defined")
