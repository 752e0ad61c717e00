"""Decoupled contrastive learning (Yeh et al., arXiv 2110.06848): NT-Xent without the positive in its denominator."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from autodidact.objectives.contrastive import info_nce
from autodidact.objectives.embeddings import (
    check_temperature,
    check_views,
    full_precision,
    full_precision_region,
    unit_rows,
)
from autodidact.objectives.shards import gathered, shard_sizes


def dcl(
    z1: Float[Tensor, "n d"], z2: Float[Tensor, "n d"], temperature: float = 0.1, *, gather: bool = True
) -> Float[Tensor, ""]:
    r"""Decoupled contrastive loss, mean over the 2N anchors (section 3.2).

    In the symbols of `nt_xent`::

        L_i^(k) = -s_i + log U_i^(k),      L = mean over i and k

    so that per anchor NT-Xent = softplus(DCL), and the gradient of NT-Xent is that of DCL times q_i (`coupling`). The
    loss is unbounded below: negative values are normal for a trained model. The paper writes a sum; some code returns
    the sum of the two views' means, which is twice this value. The mean makes learning rates comparable with NT-Xent.

    Parameters
    ----------
    z1, z2 : tensors of shape (N, D), N >= 2
        Raw projections of the two views; normalised here.
    temperature : float
        t > 0, in units of cosine similarity.
    gather : bool
        Contrast with the embeddings of every process (see `info_nce`).

    Raises
    ------
    ValueError
        N = 1, views that differ in shape, NaN or infinite values, temperature <= 0.
    """
    return info_nce(z1, z2, temperature, positive_in_denominator=False, gather=gather)


def dclw(
    z1: Float[Tensor, "n d"],
    z2: Float[Tensor, "n d"],
    temperature: float = 0.1,
    sigma: float = 0.5,
    detach_weights: bool = True,
    *,
    gather: bool = True,
) -> Float[Tensor, ""]:
    """DCL with positives weighted by a negative von Mises-Fisher density (section 3.3), mean over the 2N anchors.

    ::

        L_i^(k) = -w_i s_i + log U_i^(k),      w = `dclw_weights`

    Parameters
    ----------
    z1, z2, temperature, gather
        As in `dcl`.
    sigma : float
        Width of the weighting, > 0, in units of cosine similarity; as it grows every weight tends to 1 and DCLW to DCL.
    detach_weights : bool
        Treat w as constants. The paper does not say; published code does either. Without it the gradient also flows
        through w.
    """
    weights = dclw_weights(z1, z2, sigma, gather=gather)
    if detach_weights:
        weights = weights.detach()
    return info_nce(
        z1,
        z2,
        temperature,
        positive_in_denominator=False,
        positive_weights=torch.cat([weights, weights]),
        gather=gather,
    )


def dclw_weights(
    z1: Float[Tensor, "n d"], z2: Float[Tensor, "n d"], sigma: float = 0.5, *, gather: bool = True
) -> Float[Tensor, " n"]:
    r"""The weight of each positive pair in DCLW, for this process's pairs.

    :math:`w_i = 2 - \exp(z_i^{(1)} \cdot z_i^{(2)} / \sigma) / E[\exp(z^{(1)} \cdot z^{(2)} / \sigma)]
    = 2 - N\,\mathrm{softmax}_i(z^{(1)} \cdot z^{(2)} / \sigma)`, the mean taken over the batch of all processes.
    Weights average to 1, exceed it for badly aligned pairs and may be negative for very well aligned ones.
    """
    check_views("dclw", z1, z2)
    check_temperature("dclw", sigma, "sigma")
    with full_precision_region(z1.device):
        cosine = (unit_rows(full_precision(z1)) * unit_rows(full_precision(z2))).sum(1) / sigma
        sizes = shard_sizes(len(cosine), cosine.device, gather)
        log_mass = torch.cat(gathered(cosine, sizes)).logsumexp(0)
        return 2 - sum(sizes) * (cosine - log_mass).exp()


def coupling(
    z1: Float[Tensor, "n d"], z2: Float[Tensor, "n d"], temperature: float = 0.1, *, gather: bool = True
) -> Float[Tensor, " anchors"]:
    r"""Negative-positive coupling :math:`q_i = U_i / (\exp(s_i) + U_i)` of each anchor (proposition 1), in (0, 1).

    The gradient of NT-Xent at anchor i is q_i times that of DCL. q near 0 (an easy positive, or few negatives) means a
    vanishing step. Returned without gradient, shape (2N,), view-major, for this process's anchors.
    """
    with torch.no_grad():
        losses = info_nce(z1, z2, temperature, positive_in_denominator=False, reduction="none", gather=gather)
        return losses.sigmoid()
