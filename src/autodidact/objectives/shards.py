"""What an objective must know of the other processes: their embeddings, their counts, with gradient.

Gradients are averaged over processes by the trainer (as DistributedDataParallel does), so a loss computed here on one
shard is scaled such that this average is the exact gradient of the whole batch.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as dist_nn
from jaxtyping import Bool, Float, Shaped
from torch import Tensor


def world_size(gather: bool = True) -> int:
    """Number of processes that share the batch; 1 when `gather` is off or no process group is running."""
    return dist.get_world_size() if gather and dist.is_available() and dist.is_initialized() else 1


def process(gather: bool = True) -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if world_size(gather) > 1 else 0


def shard_sizes(rows: int, device: torch.device, gather: bool = True) -> list[int]:
    """Rows held by each process, in rank order. Shards may differ in size (the last batch of an epoch).

    The hosts tell each other where they can, so that no device is waited for; else it goes over the devices.
    """
    if world_size(gather) == 1:
        return [rows]
    where = torch.device("cpu") if _hosts_are_joined() else device
    sizes = [torch.zeros(1, dtype=torch.long, device=where) for _ in range(world_size())]
    dist.all_gather(sizes, torch.tensor([rows], device=where))
    return torch.cat(sizes).tolist()


def _hosts_are_joined() -> bool:
    """Whether the processes can exchange what lies on the CPU ("cpu:gloo,cuda:nccl", not "nccl" alone)."""
    return "cpu:" in dist.get_backend_config()


def gathered(x: Shaped[Tensor, "rows *rest"], sizes: list[int]) -> list[Tensor]:
    """The shards of every process in rank order, differentiable: the gradient of a shard is summed over processes.

    Parameters
    ----------
    x : tensor of shape (rows, ...)
        This process's shard.
    sizes : list of int
        What `shard_sizes` returned; shorter shards travel padded, since collectives want one shape.
    """
    if len(sizes) == 1:
        return [x]
    padding = x.new_zeros(max(sizes) - x.shape[0], *x.shape[1:])
    shards = dist_nn.all_gather(torch.cat([x, padding]).contiguous())
    return [shard[:size] for shard, size in zip(shards, sizes, strict=True)]


def summed(x: Float[Tensor, "*shape"], gather: bool = True) -> Float[Tensor, "*shape"]:
    """Sum over processes, differentiable (its gradient is again summed over processes)."""
    return x if world_size(gather) == 1 else dist_nn.all_reduce(x.contiguous())


def rows_of_all(x: Shaped[Tensor, "rows *rest"], gather: bool = True) -> int | Float[Tensor, ""]:
    """How many rows all processes hold together; a tensor where several do, so that no device is waited for."""
    if world_size(gather) == 1:
        return len(x)
    return summed(torch.full((), float(len(x)), dtype=x.dtype, device=x.device))


def mean_over_processes(loss: Float[Tensor, ""], gather: bool = True) -> Float[Tensor, ""]:
    """The mean of `loss` over processes as value, the gradient of this process's own `loss`."""
    if world_size(gather) == 1:
        return loss
    total = loss.detach().clone()
    dist.all_reduce(total)
    return loss + (total / world_size() - loss.detach())


def mean_over_rows(
    losses: Float[Tensor, " rows"], gather: bool = True, *, counted: Bool[Tensor, " rows"] | None = None
) -> Float[Tensor, ""]:
    """The mean of the losses of all processes as value on each; its gradients averaged over processes are exact.

    With `counted` only those rows are in the mean; where no process counts any it is 0.
    """
    if counted is None:
        sizes = shard_sizes(len(losses), losses.device, gather)
        return mean_over_processes(losses.sum() * (len(sizes) / sum(sizes)), gather)
    total = counted.sum()
    if world_size(gather) > 1:
        dist.all_reduce(total)
    share = losses.where(counted, 0.0).sum() * world_size(gather) / total.clamp(min=1).to(losses.dtype)
    return mean_over_processes(share, gather)


def is_spread(x: Tensor) -> bool:
    """Whether processes hold parts of this tensor (torch's DTensor, whose module takes time to import)."""
    return hasattr(x, "full_tensor")


def own_part(x: Tensor) -> Tensor:
    """What this process holds of a tensor that is spread over several; a tensor that is not is itself."""
    return x.to_local() if is_spread(x) else x  # type: ignore[attr-defined]


def from_first(x: Shaped[Tensor, "*shape"], gather: bool = True) -> Shaped[Tensor, "*shape"]:
    """What the first process gave, on all; without gradient. All must give one shape and type."""
    if world_size(gather) == 1:
        return x
    shared = x.detach().contiguous().clone()
    dist.broadcast(shared, src=0)
    return shared
