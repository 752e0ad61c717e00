"""DCL: NT-Xent without the positive pair in the denominator, so that small batches learn at full speed."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from autodidact.catalog import Card
from autodidact.heads import projector
from autodidact.methods.method import Progress, Views
from autodidact.methods.two_views import TwoViews, augment_for
from autodidact.model import Encoder
from autodidact.objectives import coupling, dclw_weights, info_nce

CARD = Card(
    name="dcl",
    target="DCL",
    kind="method",
    number=18,
    title="DCL / DCLW",
    paper="Yeh, Hong, Hsu, Liu, Chen, LeCun: Decoupled Contrastive Learning (2110.06848, 2021)",
    summary="SimCLR with the positive pair taken out of the denominator: no vanishing steps in small batches.",
    needs=(("image", "image"),),
    arguments=("temperature", "weighting", "sigma"),
    search=(("temperature", "0.05:1:log"),),
    claim="dcl",
    encoder="small:convnet",
)


class DCL(TwoViews):
    """Decoupled contrastive learning (arXiv 2110.06848, sections 3.2 and 3.3).

    Parameters
    ----------
    encoder : image encoder.
    temperature : divides the cosine similarities. Paper: 0.1 on ImageNet, 0.07 on CIFAR-10.
    weighting : "none" is DCL; "von_mises_fisher" is DCLW, which weighs badly aligned pairs more.
    sigma : concentration of DCLW's weights. Paper: 0.5.
    detach_weights : treat DCLW's weights as constants in the gradient.
    hidden : width of the projector's hidden layer; 0 for the encoder's width.
    dimensions : width of the projections.
    view : augmentation by name: "auto", "simclr", "grey", "tiny", "weak", ...
    view_changes : fields of `autodidact.views.Augment` to change, for example ``{blur_p: 0}``.
    """

    heeds_allowed = True

    def __init__(
        self,
        encoder: Encoder,
        *,
        temperature: float = 0.1,
        weighting: Literal["none", "von_mises_fisher"] = "none",
        sigma: float = 0.5,
        detach_weights: bool = True,
        hidden: int = 0,
        dimensions: int = 128,
        view: str = "auto",
        view_changes: dict[str, Any] | None = None,
    ) -> None:
        augment = augment_for(encoder, view, view_changes)
        super().__init__(encoder, projector(encoder.width, hidden or encoder.width, dimensions), (augment, augment))
        if temperature <= 0 or sigma <= 0:
            raise ValueError(f"temperature and sigma must be positive, got {temperature} and {sigma}")
        if weighting not in ("none", "von_mises_fisher"):
            raise ValueError(f"weighting is 'none' or 'von_mises_fisher', got '{weighting}'")
        self.temperature, self.weighting = temperature, weighting
        self.sigma, self.detach_weights = sigma, detach_weights

    def objective(self, z1: Tensor, z2: Tensor, views: Views, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        weights = None
        if self.weighting == "von_mises_fisher":
            weights = dclw_weights(z1, z2, self.sigma).repeat(2)
            weights = weights.detach() if self.detach_weights else weights
        total = info_nce(
            z1, z2, self.temperature, positive_in_denominator=False, positive_weights=weights, allowed=views.allowed
        )
        # Every so often is enough to see the coupling fall, and spares a second similarity matrix in each step.
        if progress.step % 50:
            return total, {}
        with torch.no_grad():
            return total, {"coupling": coupling(z1, z2, self.temperature).mean()}
