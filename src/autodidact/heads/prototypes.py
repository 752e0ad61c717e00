"""A head that says how alike an embedding is to each of many prototypes."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from autodidact.heads.mlp import projector
from autodidact.heads.transformer import initialise


class PrototypeHead(nn.Module):
    """An MLP with GELU to a bottleneck, and its cosines with prototypes (DINO, 2104.14294, appendix C).

    Prototypes have any length but only their direction counts: the weight-normalised last layer of the authors, its
    gain fixed at 1.

    Parameters
    ----------
    width : size of the embedding.
    prototypes : number of outputs.
    hidden : width of the inner layers of the MLP.
    bottleneck : size of what is compared with the prototypes.
    layers : Linears of the MLP.
    norm : "batch" between them, or None.
    """

    def __init__(
        self,
        width: int,
        prototypes: int,
        *,
        hidden: int = 2048,
        bottleneck: int = 256,
        layers: int = 3,
        norm: Literal["batch"] | None = None,
    ) -> None:
        super().__init__()
        self.mlp = projector(width, hidden, bottleneck, layers=layers, norm=norm, activations=nn.GELU)
        initialise(self.mlp)
        self.prototypes = nn.Parameter(torch.empty(prototypes, bottleneck))
        nn.init.normal_(self.prototypes, std=bottleneck**-0.5)

    def forward(self, x: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows k"]:
        return normalize(self.mlp(x), dim=-1) @ normalize(self.prototypes, dim=1).T
