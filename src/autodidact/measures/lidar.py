"""LiDAR: effective rank of what distinguishes samples, once the variation between their views is whitened away."""

from __future__ import annotations

import torch
from jaxtyping import Shaped
from torch import Tensor

from autodidact.measures.spectrum import effective_rank


def lidar(embeddings: Shaped[Tensor, "n q d"], *, delta: float = 1e-4, eps: float = 1e-7) -> float:
    r"""LiDAR (Thilak et al., arXiv 2312.04000): effective rank of the LDA matrix with each sample as a class.

    With :math:`\mu_i` the mean of the q views of sample i and :math:`\mu` of all, :math:`S_b = \frac1n \sum_i
    (\mu_i - \mu)(\mu_i - \mu)^T`, :math:`S_w = \frac1{nq} \sum_{iv} (z_{iv} - \mu_i)(z_{iv} - \mu_i)^T + \delta I`::

        LiDAR = exp( - sum_k p_k log p_k ),   p_k = lambda_k / sum_j lambda_j + eps,
        lambda the eigenvalues of S_w^(-1/2) S_b S_w^(-1/2)

    Dimensions that only tell views apart raise RankMe, not this.

    Parameters
    ----------
    embeddings : tensor of shape (n, q, d), any real dtype
        q >= 2 views of each of n >= 2 samples. The paper takes n = 1000, q = 50.
    delta : float
        Ridge on S_w, > 0.

    Raises
    ------
    ValueError
        Another shape, fewer than 2 samples or views, NaN or infinite values, samples that do not differ at all.
    """
    if embeddings.ndim != 3 or embeddings.shape[0] < 2 or embeddings.shape[1] < 2:
        raise ValueError(f"lidar needs (n, q, d) with n, q >= 2, got shape {tuple(embeddings.shape)}")
    if not delta > 0:
        raise ValueError(f"lidar: delta must be positive, got {delta}")
    z = embeddings.detach().double()
    if not torch.isfinite(z).all():
        raise ValueError("lidar: embeddings hold NaN or infinite values")
    n, q, d = z.shape
    means = z.mean(1)
    off = means - means.mean(0)
    within = (z - means[:, None]).reshape(n * q, d)
    between_cov = off.T @ off / n
    within_cov = within.T @ within / (n * q) + delta * torch.eye(d, dtype=z.dtype, device=z.device)
    # L^-1 S_b L^-T with S_w = L L^T has the eigenvalues of S_w^-1/2 S_b S_w^-1/2.
    factor = torch.linalg.cholesky(within_cov)
    half = torch.linalg.solve_triangular(factor, between_cov, upper=False)
    whitened = torch.linalg.solve_triangular(factor, half.T, upper=False)
    eigenvalues = torch.linalg.eigvalsh((whitened + whitened.T) / 2).clamp(min=0)
    return effective_rank(eigenvalues, eps)
