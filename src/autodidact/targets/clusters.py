"""k-means over embeddings: seeded, repaired where a cluster empties, balanced on request."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

_BLOCK = 4096


@dataclass(frozen=True)
class KMeans:
    """A clustering.

    Attributes
    ----------
    centroids : tensor of shape (k, d)
    labels : tensor of shape (n,)
        Cluster of every row it was fitted on, in 0..k-1.
    inertia : float
        Sum of squared distances of the rows to the centroids of their clusters.
    """

    centroids: Float[Tensor, "k d"]
    labels: Int[Tensor, " n"]
    inertia: float

    def assign(self, x: Float[Tensor, "m d"]) -> Int[Tensor, " m"]:
        """The nearest centroid of each row; no cluster is capped here, whether the fit was balanced or not."""
        return nearest_centroids(x, self.centroids)


def nearest_centroids(x: Float[Tensor, "m d"], centroids: Float[Tensor, "k d"]) -> Int[Tensor, " m"]:
    """The index of the nearest centroid of each row, on the device of the rows."""
    if x.ndim != 2 or x.shape[1] != centroids.shape[1]:
        raise ValueError(f"expected rows of width {centroids.shape[1]}, got shape {tuple(x.shape)}")
    return _nearest(x.detach().to(centroids), centroids)[1].to(x.device)


def kmeans(
    x: Float[Tensor, "n d"],
    k: int,
    *,
    generator: torch.Generator,
    iterations: int = 100,
    balanced: bool = False,
    n_init: int = 1,
) -> KMeans:
    """Cluster rows into k groups.

    Lloyd's algorithm from greedy k-means++ seeds (Arthur and Vassilvitskii, 2007), until the centroids move by less
    than 1e-4 of the data's variance. The centroid of an emptied cluster moves to the row farthest from its own. With
    `balanced`, sizes are then made equal: rows and clusters are matched such that no row and cluster would both rather
    have each other (deferred acceptance: a row asks for its nearest cluster that has not refused it, a full cluster
    keeps its nearest rows) and centroids are recomputed, for as long as that lowers the inertia.

    Distances are taken block by block: memory is O(n + k d + block k) beside the rows, and O(n k) bits when balanced.

    Parameters
    ----------
    x : tensor of shape (n, d)
        Finite rows. Normalise them first for clusters by angle.
    k : int
        Clusters, 1 <= k <= n.
    generator : torch.Generator
        Where the seeds come from; on the CPU, equal state gives an equal clustering.
    iterations : int
        At most so many Lloyd steps (and, with `balanced`, so many matchings), >= 1.
    balanced : bool
        Every cluster gets floor(n / k) or ceil(n / k) rows.
    n_init : int
        Independent starts, of which the one of least inertia is kept, >= 1.

    Raises
    ------
    ValueError
        k outside 1..n, NaN or infinite values, a shape that is not (n, d), iterations or n_init below 1.

    Warns
    -----
    UserWarning
        Fewer distinct rows than clusters: some clusters stay empty.
    """
    if x.ndim != 2:
        raise ValueError(f"kmeans needs a matrix (n, d), got shape {tuple(x.shape)}")
    if k < 1:
        raise ValueError(f"kmeans: k must be >= 1, got {k}")
    if k > len(x):
        raise ValueError(f"kmeans: {k} clusters need at least {k} rows, got {len(x)}")
    if iterations < 1 or n_init < 1:
        raise ValueError(f"kmeans: iterations and n_init must be >= 1, got {iterations} and {n_init}")
    if not torch.isfinite(x).all():
        raise ValueError("kmeans: rows hold NaN or infinite values")
    x = x.detach() if x.dtype == torch.float64 else x.detach().float()
    # Distances as |x|^2 - 2 x.c + |c|^2 lose digits far from the origin.
    mean = x.mean(0)
    x = x - mean
    starts = (_lloyd(x, _seeds(x, k, generator), iterations) for _ in range(n_init))
    best = min(starts, key=lambda found: found.inertia)
    if balanced:
        best = _balanced(x, best, iterations)
    if (empty := int((torch.bincount(best.labels, minlength=k) == 0).sum())) > 0:
        warnings.warn(f"kmeans: {empty} of {k} clusters are empty, the rows have too few distinct values", stacklevel=2)
    return replace(best, centroids=best.centroids + mean)


def _seeds(x: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Greedy k-means++: each next seed is the best of 2 + log k rows drawn in proportion to squared distance."""
    square = x.square().sum(1)
    trials = 2 + int(math.log(k))

    def draw(weights: Tensor, count: int) -> Tensor:
        shares = weights.double().cumsum(0)
        points = torch.rand(count, generator=generator, dtype=torch.float64, device=generator.device).to(x.device)
        return torch.searchsorted(shares, points * shares[-1], right=True).clamp_(max=len(x) - 1)

    chosen = draw(torch.ones_like(square), 1)
    distance = (square - 2 * (x @ x[chosen[0]]) + square[chosen[0]]).clamp_(min=0)
    distance[chosen] = 0
    for _ in range(k - 1):
        weights = distance if distance.any() else torch.ones_like(distance)
        candidates = draw(weights, trials)
        closer = (square[:, None] - 2 * (x @ x[candidates].T) + square[candidates]).clamp_(min=0)
        closer[candidates, torch.arange(trials, device=x.device)] = 0
        closer = torch.minimum(closer, distance[:, None])
        winner = closer.sum(0).argmin()
        distance = closer[:, winner].contiguous()
        chosen = torch.cat([chosen, candidates[winner][None]])
    return x[chosen]


def _lloyd(x: Tensor, centroids: Tensor, iterations: int) -> KMeans:
    tolerance = 1e-4 * float(x.square().mean())
    labels = torch.full((len(x),), -1, device=x.device)
    for _ in range(iterations):
        distances, nearest = _nearest(x, centroids)
        settled = torch.equal(nearest, labels)
        labels = nearest
        members = torch.bincount(labels, minlength=len(centroids))
        empty = (members == 0).nonzero().flatten()
        if len(empty):
            far = distances.argsort(descending=True, stable=True)[: len(empty)]
            labels = labels.index_put((far,), empty)
            members = torch.bincount(labels, minlength=len(centroids))
        means = torch.zeros_like(centroids).index_add_(0, labels, x) / members.clamp(min=1)[:, None]
        means = means.where(members[:, None] > 0, centroids)
        moved, centroids = float((means - centroids).square().sum()), means
        if settled or moved <= tolerance:
            break
    labels = _nearest(x, centroids)[1]
    return KMeans(centroids, labels, _inertia(x, centroids, labels))


def _nearest(x: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distance to, and index of, the nearest centroid of each row."""
    found = [_squared_distances(rows, centroids).min(1) for rows in x.split(_BLOCK)]
    return torch.cat([f.values for f in found]), torch.cat([f.indices for f in found])


def _inertia(x: Tensor, centroids: Tensor, labels: Tensor) -> float:
    return sum(
        float((rows - centroids[own]).double().square().sum())
        for rows, own in zip(x.split(_BLOCK), labels.split(_BLOCK), strict=True)
    )


def _squared_distances(rows: Tensor, centroids: Tensor) -> Tensor:
    distances = torch.addmm(centroids.square().sum(1), rows, centroids.T, alpha=-2)
    return distances.add_(rows.square().sum(1, keepdim=True)).clamp_(min=0)


def _balanced(x: Tensor, start: KMeans, iterations: int) -> KMeans:
    """Alternate matching and recentring from a plain clustering for as long as that lowers the inertia."""
    # Where n is no multiple of k, the clusters that most rows want get the extra one.
    k = len(start.centroids)
    room = torch.full((k,), len(x) // k, device=x.device)
    wanted = torch.bincount(start.labels, minlength=k)
    room[wanted.argsort(descending=True, stable=True)[: len(x) % k]] += 1
    best, centroids = None, start.centroids
    for _ in range(iterations):
        labels = _matching(x, centroids, room)
        centroids = torch.zeros_like(centroids).index_add_(0, labels, x) / room[:, None]
        inertia = _inertia(x, centroids, labels)
        if best is not None and inertia >= best.inertia:
            break
        best = KMeans(centroids, labels, inertia)
    assert best is not None
    return best


def _matching(x: Tensor, centroids: Tensor, room: Tensor) -> Tensor:
    """The row-optimal stable matching of rows to clusters with `room[c]` places each, all of which get filled."""
    refused = torch.zeros(len(x), len(centroids), dtype=torch.bool, device=x.device)
    labels = torch.zeros(len(x), dtype=torch.long, device=x.device)
    cost = x.new_zeros(len(x))
    asking = torch.arange(len(x), device=x.device)
    while len(asking):
        for rows in asking.split(_BLOCK):
            distances = _squared_distances(x[rows], centroids).masked_fill_(refused[rows], torch.inf)
            cost[rows], labels[rows] = distances.min(1)
        members = torch.bincount(labels, minlength=len(centroids))
        crowd = (members > room)[labels].nonzero().flatten()
        # Crowded clusters one after the other, each nearest first and earlier rows first among equals.
        crowd = crowd[cost[crowd].argsort(stable=True)]
        crowd = crowd[labels[crowd].argsort(stable=True)]
        clusters = labels[crowd]
        before = members.where(members > room, 0).cumsum(0) - members
        place = torch.arange(len(crowd), device=x.device) - before[clusters]
        asking = crowd[place >= room[clusters]]
        refused[asking, labels[asking]] = True
    return labels
