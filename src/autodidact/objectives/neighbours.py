"""Losses of a nearest-neighbour classifier over a labelled bank: LOOK, and NCA and SupCon as its settings."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from autodidact.objectives.embeddings import (
    check_finite,
    check_temperature,
    full_precision,
    full_precision_region,
    unit_rows,
)
from autodidact.objectives.shards import mean_over_processes, summed, world_size

Fallback = Literal["nearest_positive", "full", "skip"]
Sum = Literal["inside", "outside"]


class NeighbourLoss(NamedTuple):
    """What `leave_one_out` found.

    Attributes
    ----------
    total : the mean over the labelled queries that have a positive.
    empty : share of the labelled queries without a positive among their neighbours, where the fallback decides.
    left_out : share of the labelled queries that do not count, for want of any positive or by "skip".
    """

    total: Float[Tensor, ""]
    empty: Float[Tensor, ""]
    left_out: Float[Tensor, ""]


def leave_one_out(
    queries: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    bank: Float[Tensor, "m d"],
    bank_labels: Int[Tensor, " m"],
    *,
    k: int | None,
    temperature: float = 0.1,
    own: Bool[Tensor, "n m"] | None = None,
    positives: Sum = "inside",
    fallback: Fallback = "nearest_positive",
    gather: bool = True,
) -> NeighbourLoss:
    r"""Negative log-likelihood of a leave-one-out nearest-neighbour classifier (LOOK, arXiv 2110.06014).

    With cosines :math:`s_{ij}`, :math:`N_i` the k rows of the bank nearest to query i and :math:`P_i` those among them
    with its label::

        L_i = -log( sum_{j in P_i} exp(s_ij / t) / sum_{j in N_i} exp(s_ij / t) )           inside
        L_i = -mean_{j in P_i} log( exp(s_ij / t) / sum_{l in N_i} exp(s_il / t) )          outside

    "inside" with all rows as neighbours is the neighbourhood component analysis of Goldberger et al. (2004) on the
    sphere, "outside" with all rows is SupCon (2004.11362, equation 2). Inside, the near positives get most of the pull:
    :math:`\partial L_i / \partial s_{ij} = (a_j - a_j [j \in P_i] / p_i) / t` with the weights a of the neighbours and
    p their sum over the positives; rows that are no neighbours get none. Which rows are neighbours is not
    differentiated.

    Parameters
    ----------
    queries, bank : tensors of shape (n, d) and (m, d)
        L2-normalised here. Either may carry gradient.
    labels, bank_labels : integer tensors
        Classes; -1 where unknown: such a query does not count, such a row is nobody's neighbour.
    k : int or None
        Neighbours, >= 1; None, or as many as the bank has, for all rows.
    temperature : float
        t > 0, in units of cosine similarity.
    own : bool tensor of shape (n, m), optional
        Rows that came from the query's own sample, which are no neighbours of it. Left in, they make the loss of few
        neighbours vanish at once.
    positives : "inside" or "outside"
        Where the sum over positives stands, see above.
    fallback : "nearest_positive", "full" or "skip"
        What happens to a query that has no positive among its neighbours: the nearest one becomes a further neighbour,
        all rows become neighbours, or the query is left out. (The paper does not say.)
    gather : bool
        Under a process group, `total` is the mean over the queries of all processes, and its gradients averaged over
        processes are those of that mean. The bank is this process's: give all of them the same one.

    Raises
    ------
    ValueError
        k < 1, temperature <= 0, an empty bank, shapes that do not fit, NaN or infinite values, an unknown word.
    """
    _check(queries, labels, bank, bank_labels, k, own)
    check_temperature("leave_one_out", temperature)
    for name, value, valid in (("positives", positives, Sum), ("fallback", fallback, Fallback)):
        if value not in get_args(valid):
            raise ValueError(f"{name} is one of {', '.join(get_args(valid))}; got {value!r}")
    with full_precision_region(queries.device):
        scores = unit_rows(full_precision(queries)) @ unit_rows(full_precision(bank)).T / temperature
        known = labels >= 0
        allowed = (bank_labels >= 0).expand_as(scores)
        allowed = allowed if own is None else allowed & ~own
        same = allowed & (labels[:, None] == bank_labels)
        if k is None or k >= len(bank):
            near = allowed
            empty = known & ~same.any(1)
        else:
            chosen = _ranked(scores, allowed).topk(k, dim=1).indices
            empty = known & ~same.gather(1, chosen).any(1)
            if fallback == "full":
                near = allowed & (torch.zeros_like(allowed).scatter_(1, chosen, True) | empty[:, None])
            else:
                # One more column, of the nearest positive, which counts where it is needed.
                further = _ranked(scores, same).argmax(1, keepdim=True)
                needed = empty[:, None] & (fallback == "nearest_positive")
                scores, allowed, same = (x.gather(1, torch.cat([chosen, further], 1)) for x in (scores, allowed, same))
                near = allowed & torch.cat([torch.ones_like(chosen, dtype=torch.bool), needed], 1)
        same = same & near
        counts = known & same.any(1)
        losses = _losses(scores, near, same, counts, positives).where(counts, 0.0)
        tallies = torch.stack([counts.sum(), known.sum(), empty.sum()]).to(scores.dtype)
        counted, labelled, alone = summed(tallies, gather).unbind()
        total = mean_over_processes(losses.sum() * (world_size(gather) / counted.clamp(min=1)), gather)
        labelled = labelled.clamp(min=1)
        return NeighbourLoss(total, alone / labelled, 1 - counted / labelled)


def _ranked(scores: Float[Tensor, "n m"], among: Bool[Tensor, "n m"]) -> Float[Tensor, "n m"]:
    return scores.detach().masked_fill(~among, -math.inf)


def _losses(scores: Tensor, near: Tensor, same: Tensor, counts: Tensor, positives: Sum) -> Tensor:
    # A row that does not count may have no neighbour at all; among all rows its unused value has a finite gradient.
    unused = ~counts[:, None]
    partition = scores.masked_fill(~(near | unused), -math.inf).logsumexp(1)
    if positives == "inside":
        return partition - scores.masked_fill(~(same | unused), -math.inf).logsumexp(1)
    return partition - scores.where(same, 0.0).sum(1) / same.sum(1).clamp(min=1)


def _check(
    queries: Tensor, labels: Tensor, bank: Tensor, bank_labels: Tensor, k: int | None, own: Tensor | None
) -> None:
    if queries.ndim != 2 or bank.ndim != 2 or queries.shape[1] != bank.shape[1]:
        raise ValueError(
            f"leave_one_out: queries and bank must be matrices of one width, got {tuple(queries.shape)} and "
            f"{tuple(bank.shape)}"
        )
    if len(bank) == 0:
        raise ValueError("leave_one_out: the bank is empty, there is nothing to be a neighbour")
    for name, given, rows in (("query", labels, queries), ("row of the bank", bank_labels, bank)):
        if given.shape != rows.shape[:1]:
            raise ValueError(f"leave_one_out: one label per {name} is needed, got {len(given)} for {len(rows)}")
    if own is not None and own.shape != (len(queries), len(bank)):
        raise ValueError(f"own must be a matrix ({len(queries)}, {len(bank)}), got {tuple(own.shape)}")
    if k is not None and k < 1:
        raise ValueError(f"leave_one_out: k must be at least 1 (or None for all rows), got {k}")
    if queries.device.type == "cpu":
        check_finite("leave_one_out: the queries", queries)
        check_finite("leave_one_out: the bank", bank)
