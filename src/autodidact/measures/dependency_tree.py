"""Trees over tokens: of all trees the one of the greatest sum, its parts, and what stands out."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor


@torch.no_grad()
def dependency_tree(scores: Float[Tensor, "n t t"], roots: Int[Tensor, " n"] | None = None) -> Int[Tensor, "n t"]:
    """Parents of the tokens in the spanning tree whose edges have the greatest sum of scores.

    Chu-Liu and Edmonds' algorithm: every token but the root takes its best parent; cycles are contracted and solved as
    one. Ties go to the lower index, so equal and zero scores give a tree like any other.

    Parameters
    ----------
    scores : tensor of shape (n, t, t)
        Entry (i, j): how well j fits as the parent of i; any finite numbers. The diagonal is not looked at.
    roots : tensor of shape (n,), optional
        Default: the token whose column has the greatest sum, the one that most fits as a parent.

    Returns
    -------
    tensor of shape (n, t)
        Index of each token's parent; -1 for the root.

    Raises
    ------
    ValueError
        No tokens, NaN or infinite scores, a root that is no token.
    """
    n, t, _ = scores.shape
    if t < 1:
        raise ValueError("a tree needs at least one token")
    exact = scores.double().cpu()
    if not torch.isfinite(exact).all():
        raise ValueError("the scores of a tree must be finite")
    if roots is None:
        off = exact.clone()
        off.diagonal(dim1=1, dim2=2).zero_()
        roots = off.sum(dim=1).argmax(dim=1)
    if n and not bool(((roots >= 0) & (roots < t)).all()):
        raise ValueError(f"the root must be one of the {t} tokens, got {roots.tolist()}")
    found = np.full((n, t), -1, dtype=np.int64)
    for row, (matrix, root) in enumerate(zip(exact.numpy(), roots.tolist(), strict=True)):
        found[row] = _arborescence(matrix, int(root))
    return torch.from_numpy(found).to(scores.device)


def parts_of(parents: Int[Tensor, "n t"]) -> Int[Tensor, "n t"]:
    """For each token the child of the root below which it hangs, itself for such a child; the root for the root.

    Parameters
    ----------
    parents : from `dependency_tree`.
    """
    own = torch.arange(parents.shape[1], device=parents.device).expand_as(parents)
    root = (parents < 0).long().argmax(dim=1, keepdim=True)
    parent = parents.where(parents >= 0, own)
    part = own
    for _ in range(parents.shape[1]):
        above = parent.gather(1, part)
        moved = part.where(above == root, above)
        if torch.equal(moved, part):
            break
        part = moved
    return part


def foreground(saliency: Float[Tensor, "n t"], threshold: Literal["mean", "otsu"] = "mean") -> Bool[Tensor, "n t"]:
    """Tokens that stand out: above the mean of their image, or above the threshold of Otsu (1979), which splits the
    values into two classes of the greatest variance between them. Equal values are all background."""
    if threshold not in ("mean", "otsu"):
        raise ValueError(f"threshold must be 'mean' or 'otsu', got {threshold!r}")
    if threshold == "mean":
        return saliency > saliency.mean(dim=1, keepdim=True)
    ordered = saliency.double().sort(dim=1).values
    t = ordered.shape[1]
    below = torch.arange(1, t + 1, device=ordered.device, dtype=torch.float64)
    sums = ordered.cumsum(dim=1)
    total = sums[:, -1:]
    # k values below, t - k above: k (t - k) (mean above - mean below)^2.
    gap = (total - sums) / (t - below).clamp(min=1) - sums / below
    between = below * (t - below) * gap.square()
    cut = ordered.gather(1, between.argmax(dim=1, keepdim=True))
    return saliency.double() > cut


def _arborescence(scores: Float64[np.ndarray, "t t"], root: int) -> Int[np.ndarray, " t"]:
    """Parents (-1 for the root) of the best tree; scores[i, j] is the score of j as the parent of i."""
    t = len(scores)
    scores = scores.copy()
    np.fill_diagonal(scores, -np.inf)
    scores[root] = -np.inf
    parents = scores.argmax(axis=1)
    parents[root] = -1
    cycle = _cycle(parents)
    if cycle is None:
        return parents
    # One node in place of the cycle; what enters it replaces the edge of the node at which it enters.
    inside = np.zeros(t, dtype=bool)
    inside[cycle] = True
    outside = np.flatnonzero(~inside)
    gain = scores[cycle] - scores[cycle, parents[cycle]][:, None]
    small = np.full((len(outside) + 1, len(outside) + 1), -np.inf)
    small[:-1, :-1] = scores[np.ix_(outside, outside)]
    small[-1, :-1] = gain[:, outside].max(axis=0)
    entered = cycle[gain[:, outside].argmax(axis=0)]
    small[:-1, -1] = scores[np.ix_(outside, cycle)].max(axis=1)
    leaving = cycle[scores[np.ix_(outside, cycle)].argmax(axis=1)]
    solved = _arborescence(small, int(np.searchsorted(outside, root)))
    full = parents.copy()
    for place, node in enumerate(outside):
        above = solved[place]
        full[node] = -1 if above < 0 else leaving[place] if above == len(outside) else outside[above]
    above = solved[-1]
    full[entered[above]] = outside[above]
    return full


def _cycle(parents: Int[np.ndarray, " t"]) -> Int[np.ndarray, " k"] | None:
    """The nodes of one cycle, or None."""
    seen = np.full(len(parents), -1)
    for start in range(len(parents)):
        node = start
        while node >= 0 and seen[node] < 0:
            seen[node] = start
            node = int(parents[node])
        if node >= 0 and seen[node] == start:
            found = [node]
            while (node := int(parents[node])) != found[0]:
                found.append(node)
            return np.array(found)
    return None
