"""The predictor of a joint-embedding predictive architecture for tables: from the latents of some columns to others."""

from __future__ import annotations

import torch

from autodidact.heads.token_decoder import TokenDecoder
from autodidact.heads.transformer import sinusoidal


class JEPAPredictor(TokenDecoder):
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
        positions = sinusoidal(torch.arange(tokens), hidden)
        super().__init__(width, positions, depth=depth, heads=heads, mlp=mlp, dropout=dropout, norm="post")
