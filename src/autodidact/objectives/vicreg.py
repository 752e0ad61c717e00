"""VICReg (Bardes, Ponce, LeCun, arXiv 2105.04906): invariance, variance, covariance, each a term of its own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from autodidact.objectives.correlation import centred
from autodidact.objectives.embeddings import check_views, full_precision_region
from autodidact.objectives.shards import rows_of_all, summed


@dataclass(frozen=True)
class VICRegTerms:
    """The three terms, unweighted."""

    invariance: Float[Tensor, ""]
    variance: Float[Tensor, ""]
    covariance: Float[Tensor, ""]


def vicreg(z1: Float[Tensor, "n d"], z2: Float[Tensor, "n d"], *, gather: bool = True) -> VICRegTerms:
    r"""The terms of VICReg (section 4.1, equations 1 to 5); the paper weighs them 25, 25 and 1.

    With columns centred over the batch, :math:`S_j = \sqrt{\mathrm{var}(z_j) + 10^{-4}}` (unbiased) and
    :math:`C = Z^T Z / (N - 1)`::

        invariance = mean of (Z_1 - Z_2)^2 over rows and dimensions
        variance   = mean over the two views and the dimensions of max(0, 1 - S_j)
        covariance = sum over the two views of sum_{i != j} C_ij^2 / D

    as in the authors' code. In the paper the first is summed over dimensions, and the second over the views.

    Parameters
    ----------
    z1, z2 : tensors of shape (N, D), N >= 2
        Raw projections of the two views.
    gather : bool
        Under a process group, take the statistics over the batch of all processes. Every process then returns the
        terms of the whole batch, and gradients averaged over processes are those of the whole batch.

    Raises
    ------
    ValueError
        N = 1, views that differ in shape, NaN or infinite values.
    """
    check_views("vicreg", z1, z2)
    with full_precision_region(z1.device):
        middles = [centred(z, gather=gather) for z in (z1, z2)]
        count, width = rows_of_all(middles[0], gather), z1.shape[1]
        apart = (z1.to(middles[0]) - z2.to(middles[0])).square().sum()
        invariance = summed(apart, gather) / (count * width)
        variance, covariance = torch.zeros_like(invariance), torch.zeros_like(invariance)
        for middle in middles:
            matrix = summed(middle.T @ middle, gather) / (count - 1)
            variance = variance + torch.relu(1 - (matrix.diagonal() + 1e-4).sqrt()).mean() / 2
            covariance = covariance + (matrix - torch.diag(matrix.diagonal())).square().sum() / width
        return VICRegTerms(invariance, variance, covariance)
