"""Momentum contrast (He et al., MoCo, arXiv 1911.05722; v3, 2104.02057): queries find their key among keys that take
no gradient."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from autodidact.objectives.embeddings import (
    check_finite,
    check_temperature,
    check_views,
    full_precision,
    full_precision_region,
    unit_rows,
)
from autodidact.objectives.shards import gathered, mean_over_rows, process, shard_sizes


def momentum_contrast(
    queries: Float[Tensor, "n d"],
    keys: Float[Tensor, "n d"],
    bank: Float[Tensor, "k d"],
    temperature: float = 0.2,
    *,
    allowed: Bool[Tensor, "n k"] | None = None,
    gather: bool = True,
) -> Float[Tensor, ""]:
    r"""InfoNCE of queries against one positive key each and a bank of negative keys (equation 1).

    With unit rows :math:`q_i` (queries), :math:`k_i` (keys) and :math:`b_j` (bank)::

        L_i = -q_i.k_i / t + log( exp(q_i.k_i / t) + sum_{j allowed} exp(q_i.b_j / t) ),      L = mean over i

    A query with no permitted row of the bank loses nothing.

    Parameters
    ----------
    queries, keys : tensors of shape (N, D)
        Raw projections, row i of both from sample i; normalised here. Gradient flows into the queries only.
    bank : tensor of shape (K, D), K >= 1
        Keys that may repel: a queue, and keys of the batch. Normalised here.
    temperature : float
        t > 0, in units of cosine similarity. MoCo: 0.07, MoCo v2: 0.2.
    allowed : bool tensor of shape (N, K), optional
        Which rows of the bank repel which queries, so that no key of a query's own sample does. All by default.
    gather : bool
        Under a process group, the mean is over the queries of all processes; its gradients averaged over processes are
        those of the whole batch. The bank must then hold the keys of all.

    Raises
    ------
    ValueError
        An empty bank, shapes that do not fit, NaN or infinite values, temperature <= 0.
    """
    check_views("momentum contrast", queries, keys)
    check_temperature("momentum contrast", temperature)
    if bank.ndim != 2 or bank.shape[1] != queries.shape[1] or len(bank) == 0:
        raise ValueError(f"the bank must be (K, {queries.shape[1]}) with K >= 1, got {tuple(bank.shape)}")
    if bank.device.type == "cpu":
        check_finite("momentum contrast: the bank", bank)
    with full_precision_region(queries.device):
        q = unit_rows(full_precision(queries))
        k, b = (unit_rows(full_precision(x.detach())).to(q.dtype) for x in (keys, bank))
        positive = (q * k).sum(1) / temperature
        negative = q @ b.T / temperature
        if allowed is not None:
            negative = negative.masked_fill(~allowed, -torch.inf)
        losses = torch.cat([positive[:, None], negative], dim=1).logsumexp(1) - positive
        return mean_over_rows(losses, gather)


def cross_view_contrast(
    queries: tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]],
    keys: tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]],
    temperature: float = 0.2,
    *,
    gather: bool = True,
) -> Float[Tensor, ""]:
    r"""Queries of each view among the keys of the other view, of the whole batch (MoCo v3, 2104.02057; SiT).

    With unit rows :math:`u_a` (queries) and :math:`v_a` (keys) of view a::

        L = 2 t [ CE(u_1 v_2^T / t, identity) + CE(u_2 v_1^T / t, identity) ]

    The negatives of a query are the other images' keys of the other view alone. Where each query is its key and all
    images are at right angles, the loss is 4 t log(1 + (N - 1) exp(-1 / t)).

    Parameters
    ----------
    queries, keys : two tensors of shape (N, D) each, one a view, N >= 2 in all processes
        Raw projections, row i of all from sample i; normalised here. Gradient flows into the queries only.
    temperature : float
        t > 0. The factor 2 t keeps the size of the gradient as it changes.
    gather : bool
        Under a process group, the keys of all processes are contrasted with.

    Raises
    ------
    ValueError
        One image in all, shapes that differ, NaN or infinite values, temperature <= 0.
    """
    sizes = shard_sizes(len(queries[0]), queries[0].device, gather)
    total = sum(sizes)
    if total < 2:
        raise ValueError(f"cross-view contrast: a batch of {total} has no other image to contrast with")
    own = sum(sizes[: process(gather)]) + torch.arange(len(queries[0]), device=queries[0].device)
    others = own[:, None] != torch.arange(total, device=own.device)
    losses = [
        momentum_contrast(
            query, key, torch.cat(gathered(key.detach(), sizes)), temperature, allowed=others, gather=gather
        )
        for query, key in zip(queries, reversed(keys), strict=True)
    ]
    return 2 * temperature * (losses[0] + losses[1])
