"""The contrastive core: log-partition functions over all pairs of a batch, without ever holding all pairs.

Anchors are the 2N embeddings of both views, view-major: anchor i < N is row i of the first view, anchor N + i row i of
the second. Every cosine between them is computed once per pass in square blocks; because the matrix of cosines is
symmetric, one block above the diagonal serves its rows as anchors and its columns as anchors. The backward pass
recomputes the blocks, so memory is O(N D + block^2) instead of O(N^2).

Knows nothing of encoders, views or queues; `info_nce` names its parts and `nt_xent`, `dcl`, `dclw` are settings of it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from autodidact.objectives.embeddings import (
    check_finite,
    check_temperature,
    check_views,
    full_precision,
    full_precision_region,
    unit_rows,
)
from autodidact.objectives.shards import gathered, mean_over_processes, shard_sizes, world_size

PairRule = Callable[[Int[Tensor, " rows"], Int[Tensor, " columns"]], Bool[Tensor, "rows columns"]]
"""Which columns may repel which anchors: global indices of anchors and of columns in, a Boolean block out."""


@dataclass(frozen=True)
class _Plan:
    """Everything of a log-partition that is not an embedding."""

    pairs: int
    temperature: float
    allowed: PairRule | None
    anchor_index: Tensor
    other_index: Tensor
    block: int

    def plain_sums(self, dtype: torch.dtype) -> bool:
        """Whether exp(logit) can be summed as it is, which saves half of the passes over each block.

        Cosine logits lie in [-1/t, 1/t], so at t >= 1/40 exp() stays within 1e-18..1e18 and neither a sum of many nor
        its reciprocal leaves the range of float32 (t >= 1/300 for float64). Colder ones are kept as logarithms.
        """
        return self.allowed is None and 1.0 / self.temperature <= (300.0 if dtype == torch.float64 else 40.0)

    def spans(self, length: int, start: int = 0) -> Iterator[slice]:
        for first in range(start, length, self.block):
            yield slice(first, min(first + self.block, length))

    def permitted(self, rows: slice, columns: slice, index: Tensor) -> Tensor:
        assert self.allowed is not None
        return self.allowed(self.anchor_index[rows], index[columns])

    def anchor_blocks(self, z: Tensor, scratch: Tensor) -> Iterator[tuple[slice, slice, Tensor, Tensor]]:
        """Blocks on and above the diagonal: rows, columns, logits for the rows as anchors, logits for the columns.

        -inf stands where a column is the anchor itself, its positive, or refused by `allowed`. Without `allowed` both
        logits are one tensor, which lives in `scratch` until the next block is asked for.
        """
        heated = z / self.temperature
        for rows in self.spans(len(z)):
            for columns in self.spans(len(z), rows.start):
                logits = _product(heated[rows], z[columns], scratch)
                for offset in (0, self.pairs, -self.pairs):
                    diagonal = offset + rows.start - columns.start
                    if -logits.shape[0] < diagonal < logits.shape[1]:
                        logits.diagonal(diagonal).fill_(-math.inf)
                if self.allowed is None:
                    yield rows, columns, logits, logits
                else:
                    forward = logits.masked_fill(~self.permitted(rows, columns, self.anchor_index), -math.inf)
                    mirrored = logits.masked_fill(~self.permitted(columns, rows, self.anchor_index).T, -math.inf)
                    yield rows, columns, forward, mirrored

    def other_blocks(self, z: Tensor, others: Tensor, scratch: Tensor) -> Iterator[tuple[slice, slice, Tensor]]:
        heated = z / self.temperature
        for rows in self.spans(len(z)):
            for columns in self.spans(len(others)):
                logits = _product(heated[rows], others[columns], scratch)
                if self.allowed is not None:
                    logits.masked_fill_(~self.permitted(rows, columns, self.other_index), -math.inf)
                yield rows, columns, logits


def _scratch(z: Tensor, block: int) -> Tensor:
    return z.new_empty(min(block, len(z)) * block)


def _product(a: Tensor, b: Tensor, scratch: Tensor) -> Tensor:
    out = scratch[: len(a) * len(b)].view(len(a), len(b))
    return torch.mm(a, b.T, out=out)


class _LogPartition(torch.autograd.Function):
    """log U_i = log sum_j exp(z_i . z_j / t) over the permitted negatives j of anchor i, in the batch and `others`."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, others: Tensor, plan: _Plan) -> Tensor:
        scratch = _scratch(z, plan.block)
        with full_precision_region(z.device):
            if plan.plain_sums(z.dtype):
                total = z.new_zeros(len(z))
                for rows, columns, logits, _ in plan.anchor_blocks(z, scratch):
                    weight = logits.exp_()
                    total[rows] += weight.sum(1)
                    if rows != columns:
                        total[columns] += weight.sum(0)
                for rows, _, logits in plan.other_blocks(z, others, scratch):
                    total[rows] += logits.exp_().sum(1)
                partition = total.log()
            else:
                partition = z.new_full((len(z),), -math.inf)
                for rows, columns, logits, mirrored in plan.anchor_blocks(z, scratch):
                    partition[rows] = torch.logaddexp(partition[rows], logits.logsumexp(1))
                    if rows != columns:
                        partition[columns] = torch.logaddexp(partition[columns], mirrored.logsumexp(0))
                for rows, _, logits in plan.other_blocks(z, others, scratch):
                    partition[rows] = torch.logaddexp(partition[rows], logits.logsumexp(1))
        ctx.plan = plan
        ctx.save_for_backward(z, others, partition)
        return partition

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None]:
        """With p_ij = exp(logit_ij - partition_i): dz = (G + G^T) z / t for G = diag(grad) p, block by block."""
        plan: _Plan = ctx.plan
        z, others, partition = ctx.saved_tensors
        grad = grads[0]
        plain = plan.plain_sums(z.dtype)
        scratch, sums = _scratch(z, plan.block), _scratch(z, plan.block)
        dz = torch.zeros_like(z)
        dothers = torch.zeros_like(others) if ctx.needs_input_grad[1] else None
        # An anchor without any permitted column has partition -inf and no gradient; 0 keeps -inf - partition at -inf.
        partition = partition.masked_fill(partition == -math.inf, 0.0)
        scale = grad * (-partition).exp() if plain else grad
        with full_precision_region(z.device):
            for rows, columns, logits, mirrored in plan.anchor_blocks(z, scratch):
                if plain:
                    both = sums[: logits.numel()].view_as(logits)
                    torch.add(scale[rows, None], scale[columns], out=both)
                    weight = logits.exp_().mul_(both)
                else:
                    weight = (logits - partition[rows, None]).exp_().mul_(scale[rows, None])
                    weight += (mirrored - partition[columns]).exp_().mul_(scale[columns])
                dz[rows].addmm_(weight, z[columns])
                if rows != columns:
                    dz[columns].addmm_(weight.T, z[rows])
            for rows, columns, logits in plan.other_blocks(z, others, scratch):
                weight = (logits if plain else logits.sub_(partition[rows, None])).exp_().mul_(scale[rows, None])
                dz[rows].addmm_(weight, others[columns])
                if dothers is not None:
                    dothers[columns].addmm_(weight.T, z[rows])
        dz /= plan.temperature
        return dz, None if dothers is None else dothers.div_(plan.temperature), None


def info_nce(
    z1: Float[Tensor, "n d"],
    z2: Float[Tensor, "n d"],
    temperature: float = 0.1,
    *,
    positive_in_denominator: bool = True,
    positive_weights: Float[Tensor, " anchors"] | None = None,
    allowed: Bool[Tensor, "anchors columns"] | PairRule | None = None,
    negatives: Float[Tensor, "k d"] | None = None,
    reduction: Literal["mean", "none"] = "mean",
    gather: bool = True,
    block: int | None = None,
) -> Float[Tensor, "*anchors"]:
    r"""Contrastive loss of pairs, with every option that the methods built on it ask for.

    With unit rows :math:`z`, :math:`s_i = z_i \cdot z_{i'} / t` for the positive :math:`i'` of anchor :math:`i` and
    :math:`U_i = \sum_j \exp(z_i \cdot z_j / t)` over the permitted negatives :math:`j` of :math:`i`::

        L_i = -w_i s_i + log(exp(s_i) + U_i)      positive_in_denominator (NT-Xent, InfoNCE)
        L_i = -w_i s_i + log(U_i)                 otherwise (DCL)

    Parameters
    ----------
    z1, z2 : tensors of shape (N, D)
        Raw projections of the two views, row i of both from sample i. They are L2-normalised here.
    temperature : float
        t > 0. Typical range 0.05 to 1.
    positive_in_denominator : bool
        Whether the positive stands in the sum it is compared with.
    positive_weights : tensor of shape (2N,), optional
        w of each anchor, view-major. 1 by default.
    allowed : bool tensor of shape (2N, 2N) or (2N, 2N + K), or a function of two index vectors, optional
        ``allowed[a, b]``: may column b repel anchor a? The anchor itself is never a negative and the positive is
        governed by `positive_in_denominator` alone, whatever stands here. Columns from 2N on are `negatives` (all of
        them permitted under a (2N, 2N) matrix). A function gets the indices of a block of anchors and of columns and
        returns the Boolean block, so that no 2N x 2N mask is needed. With several processes N counts the whole batch
        and indices run over the first views of all ranks, then over their second views.
    negatives : tensor of shape (K, D), optional
        Further negatives of every anchor (a queue), L2-normalised here. They may carry gradient.
    reduction : "mean" or "none"
        "none" gives the (2N,) losses of this process's anchors. Anchors with no permitted negative lose nothing:
        they are 0 there, are left out of the mean, and are counted in a warning.
    gather : bool
        Under a process group, contrast with the embeddings of all processes, with gradient. Each process computes its
        own anchors; the mean loss is that of the whole batch on every process, and its gradients averaged over
        processes are those of the whole batch.
    block : int, optional
        Edge of the square blocks. Memory grows with its square. Chosen by device when left out.

    Returns
    -------
    tensor
        Scalar, or shape (2N,) under ``reduction="none"``; float32, or float64 for float64 input.

    Raises
    ------
    ValueError
        One pair and no queue (nothing to contrast with), views that differ in shape, NaN or infinite values,
        temperature <= 0, a mask of the wrong shape, no anchor with a permitted negative.
    """
    check_views("contrastive loss", z1, z2)
    check_temperature("contrastive loss", temperature)
    if reduction not in ("mean", "none"):
        raise ValueError(f"reduction must be 'mean' or 'none', got {reduction!r}")
    if block is not None and block < 1:
        raise ValueError(f"block must be at least 1, got {block}")
    with full_precision_region(z1.device):
        n, device = len(z1), z1.device
        sizes = shard_sizes(n, device, gather)
        total = sum(sizes)
        if total < 2 and negatives is None:
            raise ValueError(
                f"contrastive loss: needs at least 2 pairs (or a queue of negatives) to contrast, got {total}"
            )
        z = unit_rows(full_precision(torch.cat([z1, z2])))
        rank = torch.distributed.get_rank() if len(sizes) > 1 else 0
        others, other_index = _others(z, sizes, rank, negatives)
        plan = _Plan(
            pairs=n,
            temperature=temperature,
            allowed=_rule(allowed, 2 * total, 2 * total + (0 if negatives is None else len(negatives))),
            anchor_index=_pair_index(sizes, rank, device),
            other_index=other_index,
            block=block if block is not None else (1024 if device.type == "cpu" else 4096),
        )
        log_negatives = _LogPartition.apply(z, others, plan)
        similarity = (z[:n] * z[n:]).sum(1) / temperature
        positive = torch.cat([similarity, similarity])
        denominator = torch.logaddexp(positive, log_negatives) if positive_in_denominator else log_negatives
        losses = denominator - (positive if positive_weights is None else positive_weights * positive)
        contrasted = 2 * total
        if plan.allowed is not None:
            losses, contrasted = _without_lonely_anchors(losses, log_negatives > -math.inf, gather)
        if reduction == "none":
            return losses
        return mean_over_processes(losses.sum() * (len(sizes) / contrasted), gather)


def same_slot(first: Int[Tensor, " n"], second: Int[Tensor, " n"], *, gather: bool = True) -> PairRule:
    """A rule for `info_nce` under which only rows of one slot repel each other, and no row of a queue does.

    A slot is a style, a cluster, or whatever rows should share to be compared.

    Parameters
    ----------
    first, second : integer tensors of shape (N,)
        Slot of every row of the two views, negative where it is unknown: such a row repels none. Of this process's
        rows; those of the others are gathered.
    gather : bool
        As for the loss.
    """
    sizes = shard_sizes(len(first), first.device, gather)
    slots = torch.cat([torch.cat(gathered(slot, sizes)) for slot in (first, second)] + [first.new_full((1,), -1)])
    last = len(slots) - 1

    def rule(rows: Tensor, columns: Tensor) -> Tensor:
        own, others = slots[rows.clamp(max=last)][:, None], slots[columns.clamp(max=last)]
        return (own == others) & (own >= 0)

    return rule


def _without_lonely_anchors(losses: Tensor, contrasted: Tensor, gather: bool) -> tuple[Tensor, int]:
    """Losses with 0 for anchors that have no permitted negative, and the number of anchors left in all processes."""
    counts = torch.stack([contrasted.sum(), (~contrasted).sum()])
    if world_size(gather) > 1:
        torch.distributed.all_reduce(counts)
    kept, lonely = counts.tolist()
    if kept == 0:
        raise ValueError("contrastive loss: `allowed` leaves no anchor with a negative to contrast with")
    if lonely:
        warnings.warn(f"{lonely} of {kept + lonely} anchors have no permitted negative; they are skipped", stacklevel=3)
    return losses.where(contrasted, 0.0), kept


def _others(z: Tensor, sizes: list[int], rank: int, negatives: Tensor | None) -> tuple[Tensor, Tensor]:
    """Columns that are not anchors of this process, normalised: other processes' embeddings, then the queue."""
    parts, index = [z[:0]], [_pair_index([0], 0, z.device)]
    if len(sizes) > 1:
        shards = gathered(z, [2 * size for size in sizes])
        for other in range(len(sizes)):
            if other != rank:
                parts.append(shards[other])
                index.append(_pair_index(sizes, other, z.device))
    if negatives is not None:
        if negatives.ndim != 2 or negatives.shape[1] != z.shape[1]:
            raise ValueError(f"negatives must be (K, {z.shape[1]}), got {tuple(negatives.shape)}")
        if z.device.type == "cpu":
            check_finite("contrastive loss: the queue of negatives", negatives)
        parts.append(unit_rows(negatives.to(z.dtype)))
        index.append(2 * sum(sizes) + torch.arange(len(negatives), device=z.device))
    return torch.cat(parts), torch.cat(index)


def _pair_index(sizes: list[int], rank: int, device: torch.device) -> Tensor:
    """Indices, in the batch of all processes, of both views of the pairs that `rank` holds."""
    first = sum(sizes[:rank]) + torch.arange(sizes[rank], device=device)
    return torch.cat([first, first + sum(sizes)])


def _rule(allowed: Tensor | PairRule | None, anchors: int, columns: int) -> PairRule | None:
    if not isinstance(allowed, Tensor):
        return allowed
    if allowed.dtype != torch.bool or tuple(allowed.shape) not in ((anchors, anchors), (anchors, columns)):
        wide = f" or ({anchors}, {columns})" if columns != anchors else ""
        raise ValueError(
            f"allowed must be a bool matrix ({anchors}, {anchors}){wide}, got {allowed.dtype} {tuple(allowed.shape)}"
        )
    if allowed.shape[1] < columns:
        allowed = torch.cat([allowed, allowed.new_ones(anchors, columns - anchors)], dim=1)
    return lambda a, b: allowed[a[:, None], b]
