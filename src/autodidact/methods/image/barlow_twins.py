"""Barlow Twins: the cross-correlation of two views' embeddings should be the identity."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from autodidact.catalog import Card
from autodidact.heads import projector
from autodidact.methods.method import Progress, Views
from autodidact.methods.two_views import TwoViews, augment_pair
from autodidact.model import Encoder
from autodidact.objectives import barlow_twins, barlow_twins_floor

CARD = Card(
    name="barlow_twins",
    target="BarlowTwins",
    kind="method",
    number=37,
    title="Barlow Twins",
    paper="Zbontar, Jing, Misra, LeCun, Deny: Self-Supervised Learning via Redundancy Reduction (2103.03230, 2021)",
    summary="Two views agree dimension by dimension while different dimensions decorrelate: no negatives, no teacher.",
    needs=(("image", "image"),),
    arguments=("lambd", "dimensions"),
    search=(("lambd", "0.001:0.1:log"),),
    claim="barlow_twins",
    encoder="small:convnet",
)


class BarlowTwins(TwoViews):
    """Barlow Twins (arXiv 2103.03230, section 2).

    The loss cannot fall below a floor that depends on batch and width (rank of the correlation matrix); the log shows
    it as ``floor``.

    Parameters
    ----------
    encoder : image encoder.
    lambd : weight of the decorrelation. Paper: 0.0051.
    dimensions : width of the projections and of the projector's hidden layers. Paper: 8192; more is better.
    view : "auto" uses the paper's two different augmentations on colour images; else the name of one for both.
    view_changes : fields of `autodidact.views.Augment` to change in both views.
    """

    one_forward = False

    def __init__(
        self,
        encoder: Encoder,
        *,
        lambd: float = 0.0051,
        dimensions: int = 512,
        view: str = "auto",
        view_changes: dict[str, Any] | None = None,
    ) -> None:
        head = projector(encoder.width, dimensions, dimensions, layers=3, bias_last=False)
        super().__init__(encoder, head, augment_pair(encoder, view, view_changes))
        if lambd < 0:
            raise ValueError(f"lambd must not be negative, got {lambd}")
        self.lambd = lambd

    def objective(self, z1: Tensor, z2: Tensor, views: Views, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        floor = barlow_twins_floor(z1.shape[0], z1.shape[1], self.lambd)
        return barlow_twins(z1, z2, self.lambd), {"floor": z1.new_tensor(floor)}
