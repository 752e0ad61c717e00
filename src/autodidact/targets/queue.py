"""A first-in first-out memory of embeddings with the ids, and perhaps labels, of the samples they came from."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
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
    distinct : bool
        At most one row for each id: one that is held already is overwritten where it lies, and only ids that are new
        push old rows out. With room for all samples this is a memory bank: the newest embedding of each.

    Notes
    -----
    It starts empty rather than filled with noise, so nothing is ever contrasted with a row that no sample produced.
    All of it is in ``state_dict()``.
    """

    rows: Tensor
    row_ids: Tensor
    row_labels: Tensor
    pushed: Tensor

    def __init__(self, size: int, dim: int, *, distinct: bool = False) -> None:
        super().__init__()
        if size < 1 or dim < 1:
            raise ValueError(f"a queue needs size >= 1 and dim >= 1, got size={size} and dim={dim}")
        self.distinct = distinct
        self.register_buffer("rows", torch.zeros(size, dim))
        self.register_buffer("row_ids", torch.full((size,), -1))
        self.register_buffer("row_labels", torch.full((size,), -1))
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

    @property
    def labels(self) -> Int[Tensor, " filled"]:
        """The class of each row of `embeddings`; -1 where none was given."""
        return self.row_labels[: len(self)]

    @torch.no_grad()
    def push(
        self,
        embeddings: Float[Tensor, "n dim"],
        ids: Int[Tensor, " n"] | None = None,
        labels: Int[Tensor, " n"] | None = None,
        *,
        gather: bool = True,
    ) -> None:
        """Append rows, dropping the oldest. Stored as given, without gradient.

        Parameters
        ----------
        embeddings : tensor of shape (n, dim)
            More than `size` rows leave the last `size`.
        ids : integer tensor of shape (n,), optional
            Sample ids >= 0, so that a method can leave a sample's own keys out.
        labels : integer tensor of shape (n,), optional
            Classes, -1 where unknown.
        gather : bool
            Under a process group, push the rows of every process in rank order, so that all hold the same queue.

        Raises
        ------
        ValueError
            Rows of another width, ids or labels of another length, no ids for a queue of distinct ones.
        """
        if embeddings.ndim != 2 or embeddings.shape[1] != self.rows.shape[1]:
            raise ValueError(f"this queue holds rows of width {self.rows.shape[1]}, got {tuple(embeddings.shape)}")
        if ids is None and self.distinct:
            raise ValueError("a queue of distinct samples needs the ids of what is pushed")
        none = torch.full((len(embeddings),), -1, device=self.row_ids.device)
        ids, labels = none if ids is None else ids, none if labels is None else labels
        for name, given in (("id", ids), ("label", labels)):
            if given.shape != embeddings.shape[:1]:
                raise ValueError(f"one {name} per row: got {tuple(given.shape)} {name}s for {len(embeddings)} rows")
        sizes = shard_sizes(len(embeddings), embeddings.device, gather)
        added = torch.cat(gathered(embeddings.detach().to(self.rows), sizes))
        added_ids = torch.cat(gathered(ids.to(self.row_ids), sizes))
        added_labels = torch.cat(gathered(labels.to(self.row_labels), sizes))
        if self.distinct:
            latest = _latest(added_ids)
            added, added_ids, added_labels = added[latest], added_ids[latest], added_labels[latest]
            places, new = self._places(added_ids)
            self._write(places[~new], added[~new], added_ids[~new], added_labels[~new])
            added, added_ids, added_labels = added[new], added_ids[new], added_labels[new]
        self.pushed += len(added)
        added, added_ids, added_labels = (x[-len(self.rows) :] for x in (added, added_ids, added_labels))
        places = (self.pushed - len(added) + torch.arange(len(added), device=self.rows.device)) % len(self.rows)
        self._write(places, added, added_ids, added_labels)

    def _places(self, ids: Int[Tensor, " n"]) -> tuple[Int[Tensor, " n"], Bool[Tensor, " n"]]:
        """Where each id lies, and which of them are not held yet."""
        if len(self) == 0:
            return torch.zeros_like(ids), torch.ones_like(ids, dtype=torch.bool)
        held, order = self.ids.sort()
        slot = torch.searchsorted(held, ids).clamp_(max=len(held) - 1)
        return order[slot], held[slot] != ids

    def _write(
        self,
        places: Int[Tensor, " n"],
        rows: Float[Tensor, "n dim"],
        ids: Int[Tensor, " n"],
        labels: Int[Tensor, " n"],
    ) -> None:
        self.rows.index_copy_(0, places, rows)
        self.row_ids.index_copy_(0, places, ids)
        self.row_labels.index_copy_(0, places, labels)


def _latest(ids: Int[Tensor, " n"]) -> Int[Tensor, " m"]:
    """The position of the last occurrence of each id, ascending."""
    distinct, which = ids.unique(return_inverse=True)
    places = torch.arange(len(ids), device=ids.device)
    return torch.zeros_like(distinct).scatter_reduce(0, which, places, "amax", include_self=False).sort().values
