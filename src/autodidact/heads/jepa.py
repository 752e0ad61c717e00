"""The predictor of a joint-embedding predictive architecture: from the latents of some tokens to those of others."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from autodidact.heads.transformer import Tail, TransformerLayer, initialise, sinusoidal


class JEPAPredictor(nn.Module):
    """Predict the target encoder's output at given tokens from the context encoder's output at others.

    T-JEPA (2410.05016, section 3): Linear(H, Hp) and the fixed position of each context token; for every target set, a
    learned mask token with the position of each target; a post-norm transformer over [context ; targets], its tail,
    LayerNorm; the target places go through Linear(Hp, H). The sets of one sample never see each other.

    Parameters
    ----------
    width : H, size of an encoder's token.
    tokens : number of token positions (columns of the table).
    hidden : Hp, size of a token in here. Published: 16.
    depth : number of layers. Published: 16; 2 for small tables.
    heads : attention heads. Published: 4.
    mlp : width of the layers' MLP; by default four times `hidden`.
    dropout : probability.
    """

    def __init__(
        self,
        width: int,
        tokens: int,
        *,
        hidden: int = 16,
        depth: int = 2,
        heads: int = 4,
        mlp: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(width, hidden)
        self.mask = nn.Parameter(torch.empty(hidden))
        self.positions: Tensor
        self.register_buffer("positions", sinusoidal(torch.arange(tokens), hidden), persistent=False)
        self.layers = nn.ModuleList(
            TransformerLayer(hidden, heads, mlp or 4 * hidden, dropout=dropout) for _ in range(depth)
        )
        self.tail = Tail(hidden, dropout)
        self.norm = nn.LayerNorm(hidden)
        self.out = nn.Linear(hidden, width)
        initialise(self)
        nn.init.trunc_normal_(self.mask, std=0.02)

    def forward(
        self,
        context: Float[Tensor, "n k d"],
        context_index: Int[Tensor, "n k"],
        target_index: Int[Tensor, "n sets t"],
    ) -> Float[Tensor, "n sets t d"]:
        """Predictions for every target set.

        Parameters
        ----------
        context : outputs of the context encoder, class and [REG] tokens left out.
        context_index : token position of each.
        target_index : token positions to predict, by set; all sets have one size.
        """
        n, sets, t = target_index.shape
        seen = self.embed(context) + self.positions[context_index]
        asked = self.mask + self.positions[target_index]
        x = torch.cat((seen[:, None].expand(-1, sets, -1, -1), asked.to(seen.dtype)), dim=2).flatten(0, 1)
        for layer in self.layers:
            x = layer(x)
        return self.out(self.norm(self.tail(x))[:, -t:]).view(n, sets, t, -1)
