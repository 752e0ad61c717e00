"""From the tokens that were encoded to others that were not: mask tokens at their places, and a light transformer."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from autodidact.heads.transformer import Norm, Tail, TransformerLayer, initialise


def decoder_width(width: int, heads: int) -> int:
    """Half the width of an encoder's token, rounded up to what `heads` and positions on two axes divide."""
    step = math.lcm(4, heads)
    return -(-width // (2 * step)) * step


class TokenDecoder(nn.Module):
    """Say something of the tokens at given places from the outputs of an encoder at others.

    What was encoded goes through Linear(width, hidden) and gets the fixed position of its place; at every place that is
    asked for stands a learned mask token with its position; a transformer over both, LayerNorm; what stands at the
    asked places goes through Linear(hidden, outputs). MAE's decoder (2111.06377) and I-JEPA's predictor (2301.08243)
    are of this form with pre-norm layers and GELU; T-JEPA's has post-norm layers, ReLU and a tail. No token depends on
    the order in which places are listed.

    Parameters
    ----------
    width : size of an encoder's token.
    positions : fixed position of every place, such as `sinusoidal_grid`; its width is that of a token in here.
    outputs : values said of a place; by default `width`.
    depth : number of layers.
    heads : attention heads.
    mlp : width of the layers' MLP; by default four times that of a token.
    dropout : probability.
    norm : where the layers' norms are: "pre", or "post" with T-JEPA's tail behind the last layer.
    """

    def __init__(
        self,
        width: int,
        positions: Float[Tensor, "places hidden"],
        *,
        outputs: int | None = None,
        depth: int,
        heads: int,
        mlp: int | None = None,
        dropout: float = 0.0,
        norm: Norm = "pre",
    ) -> None:
        super().__init__()
        hidden = positions.shape[1]
        self.embed = nn.Linear(width, hidden)
        self.mask = nn.Parameter(torch.empty(hidden))
        self.positions: Tensor
        self.register_buffer("positions", positions, persistent=False)
        activation = nn.GELU if norm == "pre" else nn.ReLU
        self.layers = nn.ModuleList(
            TransformerLayer(hidden, heads, mlp or 4 * hidden, dropout=dropout, norm=norm, activation=activation)
            for _ in range(depth)
        )
        self.tail = nn.Identity() if norm == "pre" else Tail(hidden, dropout)
        self.norm = nn.LayerNorm(hidden)
        self.out = nn.Linear(hidden, outputs or width)
        initialise(self)
        nn.init.trunc_normal_(self.mask, std=0.02)

    def forward(
        self,
        context: Float[Tensor, "n k d"],
        context_index: Int[Tensor, "n k"],
        target_index: Int[Tensor, "n sets t"],
        *,
        prefix: Float[Tensor, "n p d"] | None = None,
    ) -> Float[Tensor, "n sets t outputs"]:
        """What is said of the places of every target set. The sets of one sample never see each other.

        Parameters
        ----------
        context : outputs of the encoder.
        context_index : place of each.
        target_index : places asked for, by set; all sets have one size.
        prefix : outputs that have no place (class tokens), which every set sees too; they get no position.
        """
        n, sets, t = target_index.shape
        seen = self.embed(context) + self.positions[context_index]
        if prefix is not None:
            seen = torch.cat((self.embed(prefix), seen), dim=1)
        asked = self.mask + self.positions[target_index]
        x = torch.cat((seen[:, None].expand(-1, sets, -1, -1), asked.to(seen.dtype)), dim=2).flatten(0, 1)
        for layer in self.layers:
            x = layer(x)
        return self.out(self.norm(self.tail(x))[:, -t:]).view(n, sets, t, -1)
