"""A slow mean: what a teacher says on average, to be taken off what it says of a sample."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from autodidact.objectives.embeddings import full_precision
from autodidact.objectives.shards import rows_of_all, summed


class Centre(nn.Module):
    r"""Exponential moving average of the mean row: :math:`c \leftarrow m c + (1 - m) \bar t` (DINO, 2104.14294, eq. 4).

    Parameters
    ----------
    dimensions : size of a row.
    momentum : share of the old centre that stays in every update, in [0, 1].

    Attributes
    ----------
    value : the centre, zero at first.
    """

    value: Tensor

    def __init__(self, dimensions: int, momentum: float = 0.9) -> None:
        super().__init__()
        if not 0 <= momentum <= 1:
            raise ValueError(f"a centre's momentum must lie in [0, 1], got {momentum}")
        self.momentum = momentum
        self.register_buffer("value", torch.zeros(dimensions))

    @torch.no_grad()
    def update(self, rows: Float[Tensor, "n k"], *, gather: bool = True) -> None:
        """Move towards the mean of the rows of all processes."""
        rows = full_precision(rows)
        self.value.lerp_(
            (summed(rows.sum(0), gather) / rows_of_all(rows, gather)).to(self.value.dtype), 1 - self.momentum
        )
