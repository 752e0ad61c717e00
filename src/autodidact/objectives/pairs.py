"""Which pairs of a batch may repel each other, as `info_nce` takes it."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from autodidact.objectives.shards import gathered, shard_sizes


def same_group_pairs(groups: Int[Tensor, " n"], gather: bool = True) -> Bool[Tensor, "m m"]:
    """Two views of each sample, view-major: a pair is allowed where both samples are of one group.

    Parameters
    ----------
    groups : of this process's samples; negative is unknown, and a sample of unknown group is allowed no pair.
    gather : under a process group, the pairs of the batch of all processes.
    """
    with torch.no_grad():
        whole = torch.cat(gathered(groups, shard_sizes(len(groups), groups.device, gather))).repeat(2)
    return (whole[:, None] == whole) & (whole >= 0)[:, None]
