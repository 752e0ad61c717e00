"""Heads on one embedding a sample: projector, predictor, linear read-out."""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn


def projector(
    width: int,
    hidden: int,
    out: int,
    *,
    layers: int = 2,
    norm: Literal["batch"] | None = "batch",
    norm_last: bool = False,
    bias_last: bool | None = None,
) -> nn.Sequential:
    """The MLP between the embedding and a contrastive or redundancy-reduction loss; thrown away afterwards.

    (Linear, BatchNorm, ReLU) x (layers - 1), Linear. A Linear followed by a BatchNorm has no bias, since the norm
    would cancel it. SimCLR (2002.05709, section 4.2): two layers, out 128. Barlow Twins (2103.03230, section 2.2):
    three layers of equal width, none with a bias: ``projector(d, 8192, 8192, layers=3, bias_last=False)``.

    Parameters
    ----------
    width : size of the embedding.
    hidden : width of the inner layers.
    out : size of the projection.
    layers : number of Linears, at least 1.
    norm : "batch" between the layers, or None (then every inner Linear has a bias).
    norm_last : whether a BatchNorm without scale and shift follows the last Linear (SimCLR v2, SimSiam).
    bias_last : whether the last Linear has a bias; by default where no norm follows it.
    """
    if layers < 1:
        raise ValueError(f"a projector has at least 1 layer, got layers={layers}")
    parts: list[nn.Module] = []
    for index in range(layers - 1):
        parts.append(nn.Linear(width if index == 0 else hidden, hidden, bias=norm is None))
        if norm is not None:
            parts.append(nn.BatchNorm1d(hidden))
        parts.append(nn.ReLU(inplace=True))
    parts.append(
        nn.Linear(width if layers == 1 else hidden, out, bias=not norm_last if bias_last is None else bias_last)
    )
    if norm_last:
        parts.append(nn.BatchNorm1d(out, affine=False))
    return nn.Sequential(*parts)


def predictor(width: int, hidden: int, *, norm: Literal["batch"] | None = "batch") -> nn.Sequential:
    """The MLP of one branch that predicts the other's projection (BYOL, SimSiam): Linear, BatchNorm, ReLU, Linear."""
    return projector(width, hidden, width, layers=2, norm=norm)


class LinearHead(nn.Module):
    """One Linear on an embedding, optionally behind a BatchNorm without scale and shift or a hidden layer.

    Parameters
    ----------
    width : size of the embedding.
    out : number of classes or of regression values.
    standardise : whether each dimension is brought to zero mean and unit variance first, which lets one learning rate
        serve embeddings of any scale (He et al., MAE, 2111.06377, appendix A).
    hidden : width of a hidden layer with GELU; None for a purely linear head.
    dropout : probability on the embedding.
    """

    def __init__(
        self, width: int, out: int, *, standardise: bool = False, hidden: int | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width, affine=False) if standardise else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.hidden = nn.Identity() if hidden is None else nn.Sequential(nn.Linear(width, hidden), nn.GELU())
        self.out = nn.Linear(hidden or width, out)
        # Zero weights start every class at the same logit, so the first steps do not undo a random read-out.
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n out"]:
        return self.out(self.hidden(self.dropout(self.norm(x))))
