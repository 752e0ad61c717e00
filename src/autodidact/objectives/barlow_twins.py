"""Barlow Twins (Zbontar et al., arXiv 2103.03230): redundancy reduction between the two views' dimensions."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from autodidact.objectives.correlation import cross_correlation, standardised
from autodidact.objectives.embeddings import check_views, full_precision_region
from autodidact.objectives.shards import gathered, shard_sizes, summed


def barlow_twins(
    z1: Float[Tensor, "n d"],
    z2: Float[Tensor, "n d"],
    lambd: float = 0.005,
    *,
    unbiased: bool = False,
    gather: bool = True,
) -> Float[Tensor, ""]:
    r"""Barlow Twins loss (section 2.1, equations 1 and 2).

    With columns standardised over the batch in each view (biased variance, eps 1e-5) and :math:`C = Z_1^T Z_2 / N`::

        L = sum_i (1 - C_ii)^2 + lambd * sum_i sum_{j != i} C_ij^2

    Sums, as in the paper, not means: `lambd` means the same as there, and values in the hundreds are normal when D
    exceeds N, since the loss cannot fall below `barlow_twins_floor`. Gradient flows through both views and through
    the batch statistics.

    Parameters
    ----------
    z1, z2 : tensors of shape (N, D), N >= 2, D >= 2
        Raw projections of the two views; standardised here.
    lambd : float
        Weight of the redundancy term, >= 0. Paper: 0.0051.
    unbiased : bool
        Standardise by the variance divided by N - 1, while C stays divided by N, so that C_ii of two equal views is
        (N - 1) / N and not 1. The authors' code does not; that of Mixed Barlow Twins (2312.02151) does.
    gather : bool
        Under a process group, take statistics and C over the batch of all processes. Every process then returns the
        loss of the whole batch, and gradients averaged over processes are those of the whole batch. Of N samples in
        all and D <= 2 N no embedding leaves its process: sums over columns and the D x D matrix C are added up. With
        more dimensions two N x D matrices are less to send than C, and N x N products less to compute; then embeddings
        are gathered.

    Raises
    ------
    ValueError
        N = 1 or D = 1, views that differ in shape, NaN or infinite values, negative lambd.
    """
    check_views("barlow_twins", z1, z2)
    if z1.shape[1] < 2:
        raise ValueError("barlow_twins: needs at least 2 dimensions to decorrelate, got D = 1")
    if not lambd >= 0:
        raise ValueError(f"barlow_twins: lambd must be >= 0, got {lambd}")
    with full_precision_region(z1.device):
        a, b = (standardised(z, unbiased=unbiased, gather=gather) for z in (z1, z2))
        sizes = shard_sizes(len(a), a.device, gather)
        n, d = sum(sizes), a.shape[1]
        if d > 2 * n:
            # ||Z1^T Z2||_F^2 = <Z1 Z1^T, Z2 Z2^T>: (N, N) products in place of (D, D) ones. With D well above the rank
            # the off-diagonal part outweighs the diagonal (`barlow_twins_floor`), so taking that off loses no digits.
            diagonal = summed((a * b).sum(0), gather) / n
            products = (a @ torch.cat(gathered(a, sizes)).T) * (b @ torch.cat(gathered(b, sizes)).T)
            off_diagonal = summed(products.sum(), gather) / n**2 - diagonal.square().sum()
        else:
            correlation = cross_correlation(a, b, gather=gather)
            diagonal = correlation.diagonal()
            off_diagonal = (correlation - torch.diag(diagonal)).square().sum()
        return (1 - diagonal).square().sum() + lambd * off_diagonal


def barlow_twins_floor(n: int, d: int, lambd: float = 0.005) -> float:
    r"""A value that `barlow_twins` cannot fall below with N samples and D dimensions.

    C has rank r <= min(D, N - 1), hence :math:`\|C\|_F^2 \ge (\mathrm{tr}\,C)^2 / r`. With :math:`C_{ii} = c` and
    :math:`k = \lambda (D / r - 1)` the loss is at least :math:`D ((1 - c)^2 + k c^2)`, smallest at
    :math:`c = 1 / (1 + k)`, where it is :math:`D k / (1 + k)`. Two free views attain it for lambd <= 1; above 1 the
    bound of lambd = 1 is returned. Identical views, which hold c at 1, cannot fall below
    :math:`D k = \lambda (D^2 / (N - 1) - D)`.

    Parameters
    ----------
    n : int
        Samples in the whole batch, >= 2.
    d : int
        Dimensions, >= 2.
    lambd : float
        Weight of the redundancy term, >= 0.
    """
    if n < 2 or d < 2 or not lambd >= 0:
        raise ValueError(f"barlow_twins_floor needs n >= 2, d >= 2 and lambd >= 0, got {n}, {d} and {lambd}")
    k = min(lambd, 1.0) * (d / min(d, n - 1) - 1)
    return d * k / (1 + k)
