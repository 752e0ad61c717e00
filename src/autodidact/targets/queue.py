"""A first-in first-out memory of embeddings with the ids of the samples they came from."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from autodidact.objectives.shards import gathered, shard_sizes


class Queue(nn.Module):
    """The last `size` embeddings pushed, as extra negatives (MoCo), a support set (NNCLR) or a labelled bank.

    Parameters
    ----------
    size : int
        Rows kept, >= 1.
    dim : int
        Width of a row, >= 1.

    Notes
    -----
    It starts empty rather than filled with noise, so nothing is ever contrasted with a row that no sample produced.
    All of it is in ``state_dict()``.
    """

    rows: Tensor
    row_ids: Tensor
    pushed: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        if size < 1 or dim < 1:
            raise ValueError(f"a queue needs size >= 1 and dim >= 1, got size={size} and dim={dim}")
        self.register_buffer("rows", torch.zeros(size, dim))
        self.register_buffer("row_ids", torch.full((size,), -1))
        self.register_buffer("pushed", torch.zeros((), dtype=torch.long))

    def __len__(self) -> int:
        return min(int(self.pushed), len(self.rows))

    @property
    def embeddings(self) -> Float[Tensor, "filled dim"]:
        """The rows held, in no particular order; a view, valid until the next push."""
        return self.rows[: len(self)]

    @property
    def ids(self) -> Int[Tensor, " filled"]:
        """The sample id of each row of `embeddings`; -1 where none was given."""
        return self.row_ids[: len(self)]

    @torch.no_grad()
    def push(
        self, embeddings: Float[Tensor, "n dim"], ids: Int[Tensor, " n"] | None = None, *, gather: bool = True
    ) -> None:
        """Append rows, dropping the oldest. Stored as given, without gradient.

        Parameters
        ----------
        embeddings : tensor of shape (n, dim)
            More than `size` rows leave the last `size`.
        ids : integer tensor of shape (n,), optional
            Sample ids, so that a method can leave a sample's own keys out.
        gather : bool
            Under a process group, push the rows of every process in rank order, so that all hold the same queue.

        Raises
        ------
        ValueError
            Rows of another width, ids of another length.
        """
        if embeddings.ndim != 2 or embeddings.shape[1] != self.rows.shape[1]:
            raise ValueError(f"this queue holds rows of width {self.rows.shape[1]}, got {tuple(embeddings.shape)}")
        if ids is None:
            ids = torch.full((len(embeddings),), -1, device=self.row_ids.device)
        if ids.shape != embeddings.shape[:1]:
            raise ValueError(f"one id per row: got {tuple(ids.shape)} ids for {len(embeddings)} rows")
        sizes = shard_sizes(len(embeddings), embeddings.device, gather)
        added = torch.cat(gathered(embeddings.detach().to(self.rows), sizes))
        added_ids = torch.cat(gathered(ids.to(self.row_ids), sizes))
        self.pushed += len(added)
        added, added_ids = added[-len(self.rows) :], added_ids[-len(self.rows) :]
        places = (self.pushed - len(added) + torch.arange(len(added), device=self.rows.device)) % len(self.rows)
        self.rows.index_copy_(0, places, added)
        self.row_ids.index_copy_(0, places, added_ids)
