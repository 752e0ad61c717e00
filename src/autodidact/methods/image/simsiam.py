"""SimSiam: a network predicts what it says itself of another view; all that prevents collapse is the stop-gradient."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from autodidact.catalog import Card
from autodidact.heads import predictor, projector
from autodidact.methods.method import Progress, Views
from autodidact.methods.other_view import OtherView
from autodidact.methods.two_views import augment_for
from autodidact.model import Encoder

CARD = Card(
    name="simsiam",
    target="SimSiam",
    kind="method",
    title="SimSiam",
    paper="Chen, He: Exploring Simple Siamese Representation Learning (2011.10566, 2020)",
    summary="A network predicts what it says itself of another view: no negatives, no slow copy.",
    needs=(("image", "image"),),
    arguments=("dimensions", "bottleneck", "stop_gradient"),
    encoder="small:convnet",
)


class SimSiam(OtherView):
    """SimSiam (arXiv 2011.10566, section 3).

    The loss is the mean negative cosine of prediction and target, in [-1, 1]; at -1 from early on, the outputs have
    collapsed. The paper trains with SGD at 0.05 for batches of 256, and goes on with the predictor at a constant rate.

    Parameters
    ----------
    encoder : image encoder.
    dimensions : width of the projections and of the projector's hidden layers. Paper: 2048.
    bottleneck : width of the predictor's hidden layer. Paper: 512, a quarter of the projections.
    stop_gradient : whether the target is a constant. Without it, the outputs collapse (section 4.1).
    view : augmentation by name: "auto", "simclr", "grey", "tiny", "weak", ...
    view_changes : fields of `autodidact.views.Augment` to change.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        dimensions: int = 512,
        bottleneck: int = 128,
        stop_gradient: bool = True,
        view: str = "auto",
        view_changes: dict[str, Any] | None = None,
    ) -> None:
        augment = augment_for(encoder, view, view_changes)
        super().__init__(
            encoder,
            projector(encoder.width, dimensions, dimensions, layers=3, norm_last=True),
            predictor(dimensions, bottleneck),
            (augment, augment),
            stop_gradient=stop_gradient,
        )

    def objective(self, z1: Tensor, z2: Tensor, views: Views, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        total, terms = super().objective(z1, z2, views, progress)
        # From the two squared distances to their mean negative cosine, the unit in which the paper's rates are.
        return total / 4 - 1, terms
