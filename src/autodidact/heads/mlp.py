"""Heads on one embedding a sample: projector, predictor, linear read-out."""

from __future__ import annotations

from collections.abc import Sequence
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
    scale_last: bool = False,
    bias_last: bool | None = None,
    activations: type[nn.Module] | Sequence[type[nn.Module]] = nn.ReLU,
    first: int | None = None,
) -> nn.Sequential:
    """The MLP between the embedding and a contrastive or redundancy-reduction loss; thrown away afterwards.

    (Linear, BatchNorm, activation) x (layers - 1), Linear. A Linear followed by a BatchNorm has no bias, since the norm
    would cancel it. SimCLR (2002.05709, section 4.2): two layers, out 128. Barlow Twins (2103.03230, section 2.2):
    three layers of equal width, none with a bias: ``projector(d, 8192, 8192, layers=3, bias_last=False)``.

    Parameters
    ----------
    width : size of the embedding.
    hidden : width of the inner layers.
    out : size of the projection.
    layers : number of Linears, at least 1.
    norm : "batch" between the layers, or None (then every inner Linear has a bias).
    norm_last : whether a BatchNorm without scale and shift follows the last Linear (SimSiam).
    scale_last : whether that norm has a scale all the same, still no shift (SimCLR v2).
    bias_last : whether the last Linear has a bias; by default where no norm follows it.
    activations : between the layers: one for all, or one for each place.
    first : make only so many of the layers, from the first on, each with the norm and activation that follow it; the
        names of the parameters stay. SimCLR v2 (2006.10029, section 2.2) fine-tunes from one of the inner layers. 0 is
        the identity.
    """
    if layers < 1:
        raise ValueError(f"a projector has at least 1 layer, got layers={layers}")
    if out < 1 or (layers > 1 and hidden < 1):
        raise ValueError(
            f"the layers of a projector have a width of at least 1, got {hidden} inside and {out} at the end"
        )
    if first is not None and not 0 <= first <= layers:
        raise ValueError(f"of {layers} layers of a projector the first 0 to {layers} can be kept, got {first}")
    kinds = [activations] * (layers - 1) if isinstance(activations, type) else list(activations)
    if len(kinds) != layers - 1:
        raise ValueError(f"between {layers} layers of a projector stand {layers - 1} activations, got {len(kinds)}")
    parts: list[nn.Module] = []
    for index, kind in enumerate(kinds):
        parts.append(nn.Linear(width if index == 0 else hidden, hidden, bias=norm is None))
        if norm is not None:
            parts.append(nn.BatchNorm1d(hidden))
        parts.append(nn.ReLU(inplace=True) if kind is nn.ReLU else kind())
    parts.append(
        nn.Linear(width if layers == 1 else hidden, out, bias=not norm_last if bias_last is None else bias_last)
    )
    if norm_last:
        parts.append(nn.BatchNorm1d(out, affine=scale_last))
        # F.batch_norm takes a scale without a shift; the module has no argument for it.
        parts[-1].register_parameter("bias", None)
    if first is None or first == layers:
        return nn.Sequential(*parts)
    linears = [index for index, part in enumerate(parts) if isinstance(part, nn.Linear)]
    return nn.Sequential(*parts[: linears[first]])


def predictor(width: int, hidden: int, *, norm: Literal["batch"] | None = "batch") -> nn.Sequential:
    """The MLP of one branch that predicts the other's projection (BYOL, SimSiam): Linear, BatchNorm, ReLU, Linear."""
    return projector(width, hidden, width, layers=2, norm=norm)


class LinearHead(nn.Module):
    """One Linear on an embedding, optionally behind a BatchNorm without scale and shift, a projector or a hidden layer.

    Parameters
    ----------
    width : size of the embedding.
    out : number of classes or of regression values.
    standardise : whether each dimension is brought to zero mean and unit variance first, which lets one learning rate
        serve embeddings of any scale (He et al., MAE, 2111.06377, appendix A).
    hidden : width of a hidden layer with GELU; None for a purely linear head.
    dropout : probability on the embedding.
    projection : size of the output of a `projector` (of two layers, the inner one as wide as the embedding) that comes
        first, as in front of a contrastive loss; None for none.
    """

    def __init__(
        self,
        width: int,
        out: int,
        *,
        standardise: bool = False,
        hidden: int | None = None,
        dropout: float = 0.0,
        projection: int | None = None,
    ) -> None:
        super().__init__()
        self.projector = nn.Identity() if projection is None else projector(width, width, projection)
        width = projection or width
        self.norm = nn.BatchNorm1d(width, affine=False) if standardise else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.hidden = nn.Identity() if hidden is None else nn.Sequential(nn.Linear(width, hidden), nn.GELU())
        self.out = nn.Linear(hidden or width, out)
        # Zero weights start every class at the same logit, so the first steps do not undo a random read-out.
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n out"]:
        return self.out(self.hidden(self.dropout(self.norm(self.projector(x)))))
