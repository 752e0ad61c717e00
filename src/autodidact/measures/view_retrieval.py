"""How often a view of a sample finds another view of it among those of all samples."""

from __future__ import annotations

import torch
from jaxtyping import Shaped
from torch import Tensor
from torch.nn.functional import normalize


def view_retrieval(embeddings: Shaped[Tensor, "n q d"]) -> float:
    """Share of the pairs of two views of a sample in which, of the second views of all samples, the nearest to the
    first is the sample's own; by cosine, once the mean of all is taken off. Embeddings that are all alike find by
    chance: 1 / n.

    It rises with what tells samples apart and stays through the views. Only figures of the same views of the same
    samples can be compared.

    Parameters
    ----------
    embeddings : tensor of shape (n, q, d), any real dtype
        q >= 2 views of each of n >= 2 samples; view v of all samples is drawn alike.

    Raises
    ------
    ValueError
        Another shape, fewer than 2 samples or views, NaN or infinite values.
    """
    if embeddings.ndim != 3 or embeddings.shape[0] < 2 or embeddings.shape[1] < 2:
        raise ValueError(f"view_retrieval needs (n, q, d) with n, q >= 2, got shape {tuple(embeddings.shape)}")
    z = embeddings.detach().float()
    if not torch.isfinite(z).all():
        raise ValueError("view_retrieval: embeddings hold NaN or infinite values")
    n, q, _ = z.shape
    off = z - z.mean((0, 1))
    # Rounding alone would tell samples apart that are all alike.
    off = torch.where(off.norm(dim=-1, keepdim=True) > 1e-5 * z.norm(dim=-1, keepdim=True), off, 0.0)
    views = normalize(off, dim=-1).unbind(1)
    found = torch.zeros((), dtype=torch.float64, device=z.device)
    for one in range(q):
        for other in range(one):
            alike = views[one] @ views[other].T
            for seen in (alike, alike.T):
                best = seen == seen.amax(1, keepdim=True)
                found += (best.diagonal() / best.sum(1)).double().sum()
    return float(found) / (n * q * (q - 1))
