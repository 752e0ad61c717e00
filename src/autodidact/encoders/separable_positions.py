"""Positions of patches on two axes: a learned vector for each row plus one for each column."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize


class SeparablePositions(nn.Module):
    """The position of the patch at row r and column c is ``row[r] + column[c]``.

    Parameters
    ----------
    rows, columns : of patches.
    """

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.rows, self.columns = rows, columns

    def forward(self, row: Float[Tensor, "r d"], column: Float[Tensor, "c d"]) -> Float[Tensor, "1 r*c d"]:
        return (row[:, None] + column).flatten(0, 1)[None]

    def right_inverse(self, positions: Float[Tensor, "1 t d"]) -> tuple[Float[Tensor, "r d"], Float[Tensor, "c d"]]:
        """The rows and columns whose sums are nearest: means of the positions, less half the mean of all from each."""
        grid = positions[0].unflatten(0, (self.rows, self.columns))
        half = grid.mean(dim=(0, 1)) / 2
        return grid.mean(dim=1) - half, grid.mean(dim=0) - half


def separate(model: Any) -> None:
    """Give a transformer of timm such positions in place of one vector a patch; it must not place its prefix tokens.

    They stay its ``pos_embed``, so that all that reads it is as before; the weights are ``original0``, the rows, and
    ``original1``, the columns, under ``parametrizations.pos_embed``.
    """
    parametrize.register_parametrization(model, "pos_embed", SeparablePositions(*model.patch_embed.grid_size))
    parts = model.parametrizations.pos_embed
    for vectors in (parts.original0, parts.original1):
        # As timm begins with a vector a patch; the means of such vectors would be smaller.
        nn.init.trunc_normal_(vectors, std=0.02)


def joined(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state with rows and columns as one with a vector a patch under ``pos_embed``, as timm has it; others as is."""
    names = [f"parametrizations.pos_embed.original{axis}" for axis in (0, 1)]
    if not set(names) <= state.keys():
        return state
    row, column = (state[name] for name in names)
    rest = {name: value for name, value in state.items() if name not in names}
    with torch.no_grad():
        return {**rest, "pos_embed": SeparablePositions(len(row), len(column))(row, column)}
