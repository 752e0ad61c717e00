"""Heads that name what was done to an image: one on an embedding, one on the embeddings of all tiles."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn


def pretext_head(width: int, out: int, *, hidden: Sequence[int] = (512, 128), dropout: float = 0.5) -> nn.Sequential:
    """(Linear, ReLU, dropout) for each hidden width, then Linear: the rotation head of ScatSimCLR (2108.13939).

    Parameters
    ----------
    width : size of the embedding.
    out : number of things to tell apart.
    hidden : widths of the hidden layers.
    dropout : probability behind each of them.
    """
    parts: list[nn.Module] = []
    for before, after in zip((width, *hidden), hidden, strict=False):
        parts += [nn.Linear(before, after), nn.ReLU(inplace=True), nn.Dropout(dropout)]
    return nn.Sequential(*parts, nn.Linear(hidden[-1] if hidden else width, out))


class JigsawHead(nn.Module):
    """Each tile's embedding through one shared layer, all of them side by side through another, then the orders.

    Parameters
    ----------
    width : size of a tile's embedding.
    tiles : tiles of an image.
    out : number of orders to tell apart.
    each, together : widths of the two hidden layers. ScatSimCLR (2108.13939): 512 and 4096.
    dropout : probability behind both.
    """

    def __init__(
        self, width: int, tiles: int, out: int, *, each: int = 512, together: int = 4096, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.each = nn.Sequential(nn.Linear(width, each), nn.ReLU(inplace=True), nn.Dropout(dropout))
        self.together = pretext_head(tiles * each, out, hidden=(together,), dropout=dropout)

    def forward(self, x: Float[Tensor, "n tiles d"]) -> Float[Tensor, "n out"]:
        return self.together(self.each(x).flatten(1))
