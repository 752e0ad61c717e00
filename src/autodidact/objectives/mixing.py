"""Mixed Barlow Twins (Bandara, De Melo, Patel, arXiv 2312.02151): embeddings of mixed images should be the mixtures."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from autodidact.objectives.correlation import cross_correlation, standardised
from autodidact.objectives.embeddings import check_views, full_precision, full_precision_region


def mixing_gap(
    mixed: Float[Tensor, "n d"],
    z1: Float[Tensor, "n d"],
    z2: Float[Tensor, "n d"],
    order: Int[Tensor, " n"],
    share: Float[Tensor, ""] | float,
    *,
    standardise: bool = True,
    restandardise: bool = False,
    stop_target: bool = False,
    unbiased: bool = False,
    gather: bool = True,
) -> Float[Tensor, ""]:
    r"""The regulariser of Mixed Barlow Twins (section 3.2), without its weight.

    For images :math:`a x_1 + (1 - a) x_2[\pi]` with projections :math:`Z_M`, all columns standardised::

        T   = a Z_1 + (1 - a) Z_2[pi]
        L   = || (Z_M - T)^T Z_1 / N ||_F^2 + || (Z_M - T)^T Z_2 / N ||_F^2

    which are the paper's two differences of cross-correlation matrices, since those are linear in T. All D^2 entries
    count. Gradient flows through the targets too, as in the authors' code. Their code for ImageNet puts
    :math:`Z_2^T Z_2` for :math:`Z_1^T Z_2` in the second target; the formula of the paper and the code for small data,
    followed here, do not.

    Even a linear encoder has a gap: the mixture of two nearly independent embeddings has columns of spread
    :math:`s \approx \sqrt{a^2 + (1-a)^2} < 1`, while :math:`Z_M` is standardised, so that the gap is
    :math:`(1/s - 1)` times the target, row by row. `restandardise` takes that part off.

    Parameters
    ----------
    mixed, z1, z2 : tensors of shape (N, D), N >= 2
        Raw projections of the mixed images and of the two views.
    order : integer tensor of shape (N,)
        The permutation: row i of `mixed` is of image i of the first view and image ``order[i]`` of the second, both of
        this process.
    share : scalar
        a, in [0, 1]; each process may have its own.
    standardise : bool
        False compares the matrices as they are given.
    restandardise : bool
        Standardise T again, so that a linear encoder has no gap. Not in the paper.
    stop_target : bool
        Let no gradient through the two target matrices.
    unbiased : bool
        As in `barlow_twins`; the authors' code does.
    gather : bool
        Under a process group, take statistics and matrices over the batch of all processes.

    Raises
    ------
    ValueError
        N = 1, projections that differ in shape, NaN or infinite values, a share outside [0, 1] (looked at on the CPU
        only: elsewhere that would make every step wait).
    """
    check_views("mixing_gap", z1, z2)
    check_views("mixing_gap", mixed, z1, ("mixed", "first"))
    if not (isinstance(share, Tensor) and share.device.type != "cpu") and not 0 <= float(share) <= 1:
        raise ValueError(f"mixing_gap: the share of the first view lies in [0, 1], got {float(share)}")
    with full_precision_region(z1.device):
        if standardise:
            mixed, z1, z2 = (standardised(z, unbiased=unbiased, gather=gather) for z in (mixed, z1, z2))
        else:
            mixed, z1, z2 = (full_precision(z) for z in (mixed, z1, z2))
        target = share * z1 + (1 - share) * z2[order]
        if restandardise:
            target = standardised(target, unbiased=unbiased, gather=gather)
        gap = z1.new_zeros(())
        for z in (z1, z2):
            wanted = cross_correlation(target, z, gather=gather)
            wanted = wanted.detach() if stop_target else wanted
            gap = gap + (cross_correlation(mixed, z, gather=gather) - wanted).square().sum()
        return gap
