"""Rank measures: RankMe."""

from __future__ import annotations

import warnings

import torch
from jaxtyping import Float, Shaped
from torch import Tensor


def effective_rank(singular_values: Float[Tensor, " m"], eps: float = 1e-7) -> float:
    p = singular_values.double() / singular_values.double().sum() + eps
    return float((-(p * p.log()).sum()).exp())


def rankme(
    embeddings: Shaped[Tensor, "n k"], *, center: bool = False, normalize: bool = False, eps: float = 1e-7
) -> float:
    z = embeddings.detach().double()
    if z.ndim != 2 or z.shape[0] < 2:
        raise ValueError(f"rankme: needs a matrix (N, K) with N >= 2, got {tuple(z.shape)}")
    if not torch.isfinite(z).all():
        raise ValueError("rankme: embeddings hold NaN or infinite values")
    if center:
        z = z - z.mean(0)
    if normalize:
        z = torch.nn.functional.normalize(z)
    if not z.any():
        raise ValueError("rankme: embeddings are all zero, their rank is not defined")
    if z.shape[0] < z.shape[1]:
        warnings.warn(f"rankme of {z.shape[0]} rows with {z.shape[1]} dimensions is bounded by the rows", stacklevel=2)
    return effective_rank(torch.linalg.svdvals(z), eps)
