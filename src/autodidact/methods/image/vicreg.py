"""VICReg: views agree, every dimension keeps its variance, dimensions decorrelate."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from autodidact.catalog import Card
from autodidact.heads import projector
from autodidact.methods.method import Progress, Views
from autodidact.methods.two_views import TwoViews, augment_pair
from autodidact.model import Encoder
from autodidact.objectives import vicreg

CARD = Card(
    name="vicreg",
    target="VICReg",
    kind="method",
    title="VICReg",
    paper="Bardes, Ponce, LeCun: Variance-Invariance-Covariance Regularization (2105.04906, 2021)",
    summary="Views agree, each dimension keeps its variance, and dimensions decorrelate: no negatives, no teacher.",
    needs=(("image", "image"),),
    arguments=("invariance", "variance", "covariance", "dimensions"),
    search=(("covariance", "0.1:10:log"),),
    encoder="small:convnet",
)


class VICReg(TwoViews):
    """VICReg (arXiv 2105.04906, section 4.1). The log shows each term.

    Parameters
    ----------
    encoder : image encoder.
    invariance : weight of the distance between the views. Paper: 25.
    variance : weight of keeping each dimension's standard deviation at 1 or above. Paper: 25; without it, collapse.
    covariance : weight of the decorrelation. Paper: 1.
    dimensions : width of the projections and of the projector's hidden layers. Paper: 8192.
    view : "auto" uses BYOL's two different augmentations on colour images, as the paper does; else the name of one for
        both.
    view_changes : fields of `autodidact.views.Augment` to change in both views.
    """

    one_forward = False

    def __init__(
        self,
        encoder: Encoder,
        *,
        invariance: float = 25.0,
        variance: float = 25.0,
        covariance: float = 1.0,
        dimensions: int = 512,
        view: str = "auto",
        view_changes: dict[str, Any] | None = None,
    ) -> None:
        head = projector(encoder.width, dimensions, dimensions, layers=3, bias_last=False)
        super().__init__(encoder, head, augment_pair(encoder, view, view_changes))
        weights = {"invariance": invariance, "variance": variance, "covariance": covariance}
        for name, weight in weights.items():
            if weight < 0:
                raise ValueError(f"{name} must not be negative, got {weight}")
        self.weights = weights

    def objective(self, z1: Tensor, z2: Tensor, views: Views, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        terms = vars(vicreg(z1, z2))
        return sum((self.weights[name] * term for name, term in terms.items()), z1.new_zeros(())), dict(terms)
