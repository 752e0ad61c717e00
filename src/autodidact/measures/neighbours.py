"""Nearest neighbours by cosine, and the classifier built on them."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_QUERIES = 1024
_BANK = 4096


@torch.no_grad()
def nearest(
    queries: Float[Tensor, "m d"],
    bank: Float[Tensor, "n d"],
    k: int,
    among: Bool[Tensor, " n"] | None = None,
) -> tuple[Float[Tensor, "m k"], Int[Tensor, "m k"]]:
    """Cosine similarities and indices of the k rows of `bank` nearest to each query, nearest first.

    Memory is one block of similarities, whatever m and n.

    Parameters
    ----------
    queries, bank : tensors of shapes (m, d) and (n, d)
        Normalised here.
    k : int
        1 <= k <= n.
    among : bool tensor of shape (n,), optional
        The rows that may be found. Where fewer than k may, the similarities at the end are -inf.

    Raises
    ------
    ValueError
        k outside 1..n, widths that differ, NaN or infinite values.
    """
    if queries.ndim != 2 or bank.ndim != 2 or queries.shape[1] != bank.shape[1]:
        raise ValueError(
            f"queries and bank must be matrices of one width, got {tuple(queries.shape)}, {tuple(bank.shape)}"
        )
    if not 1 <= k <= len(bank):
        raise ValueError(f"k must lie between 1 and the {len(bank)} rows searched, got {k}")
    queries = _unit(queries)
    best = queries.new_full((len(queries), k), -torch.inf)
    index = torch.zeros(len(queries), k, dtype=torch.long, device=queries.device)
    for start in range(0, len(bank), _BANK):
        rows = _unit(bank[start : start + _BANK])
        for first in range(0, len(queries), _QUERIES):
            part = slice(first, first + _QUERIES)
            block = queries[part] @ rows.T
            if among is not None:
                block.masked_fill_(~among[start : start + _BANK], -torch.inf)
            # After the first blocks most queries find nothing nearer, and the largest of a row is quickly found.
            nearer = (block.amax(dim=1) > best[part, -1]).nonzero()[:, 0]
            found = block[nearer].topk(min(k, len(rows)), dim=1)
            at = nearer + first
            values, chosen = torch.cat([best[at], found.values], dim=1).topk(k, dim=1)
            places = torch.cat([index[at], found.indices + start], dim=1)
            best[at], index[at] = values, places.gather(1, chosen)
    return best, index


@torch.no_grad()
def knn_predict(
    train_z: Float[Tensor, "n d"],
    train_y: Int[Tensor, " n"],
    test_z: Float[Tensor, "m d"],
    k: int = 20,
    temperature: float = 0.07,
    weighting: Literal["similarity", "uniform"] = "similarity",
) -> Int[Tensor, " m"]:
    r"""Class of each test row by vote of its k nearest training rows (Wu et al., arXiv 1805.01978, section 3.4).

    Parameters
    ----------
    train_z, test_z : tensors of shapes (n, d) and (m, d)
        Embeddings; compared by cosine.
    train_y : integer tensor of shape (n,)
        Classes, any integers >= 0.
    k : int
        Neighbours that vote, >= 1; with fewer training rows than that, all of them vote.
    temperature : float
        Of the weights :math:`\exp(\cos / \tau)`, > 0; unused under "uniform".
    weighting : "similarity" or "uniform"
        Ties go to the smaller class.

    Raises
    ------
    ValueError
        No training rows, labels of another length or negative, k < 1, temperature <= 0, an unknown weighting.
    """
    if len(train_z) == 0 or train_y.shape != train_z.shape[:1]:
        raise ValueError(f"one label per training row is needed, got {tuple(train_y.shape)} for {len(train_z)} rows")
    if train_y.min() < 0:
        raise ValueError("labels must be >= 0; leave unlabelled rows out")
    if k < 1 or not temperature > 0:
        raise ValueError(f"knn needs k >= 1 and temperature > 0, got k={k} and temperature={temperature}")
    if weighting not in ("similarity", "uniform"):
        raise ValueError(f"weighting must be 'similarity' or 'uniform', got {weighting!r}")
    similarities, indices = nearest(test_z, train_z, min(k, len(train_z)))
    votes = train_y.to(indices.device)[indices]
    weights = torch.ones_like(similarities)
    if weighting == "similarity":
        # Off the largest, so that no temperature overflows; a row's weights are only compared with each other.
        weights = ((similarities - similarities[:, :1]) / temperature).exp()
    tally = weights.new_zeros(len(votes), int(train_y.max()) + 1)
    return tally.scatter_add_(1, votes, weights).argmax(1)


def _unit(z: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    z = z if z.dtype == torch.float64 else z.float()
    norms = z.norm(dim=1, keepdim=True)
    if not torch.isfinite(norms).all():
        raise ValueError("embeddings hold NaN or infinite values, their neighbours are not defined")
    return z / norms.clamp(min=1e-12)
