"""BYOL: a network predicts what a slow copy of itself says of another view; there are no negatives."""

from __future__ import annotations

from typing import Any

from autodidact.catalog import Card
from autodidact.heads import predictor, projector
from autodidact.methods.other_view import OtherView
from autodidact.methods.two_views import augment_pair
from autodidact.model import Encoder

CARD = Card(
    name="byol",
    target="BYOL",
    kind="method",
    title="BYOL",
    paper="Grill, Strub, Altché et al.: Bootstrap Your Own Latent (2006.07733, 2020)",
    summary="A network predicts what a slow copy of itself says of another view: no negatives.",
    needs=(("image", "image"),),
    arguments=("momentum", "dimensions"),
    search=(("momentum", "0.9,0.97,0.99,0.996"),),
    encoder="small:convnet",
)


class BYOL(OtherView):
    """BYOL (arXiv 2006.07733, section 3.1).

    The prediction is of the slow copy's projection, up to its length; the loss lies in [0, 8] and says little about
    progress: look at the spread and rank of the embeddings instead. The network itself is kept, not its slow copy.

    Parameters
    ----------
    encoder : image encoder.
    momentum : of the slow copy at the first update; it rises to 1 by a cosine. Paper: 0.996. 0 for no copy: then the
        network is its own target.
    hidden : width of the hidden layer of projector and predictor. Paper: 4096.
    dimensions : width of the projections. Paper: 256.
    view : "auto" uses the paper's two different augmentations on colour images; else the name of one for both.
    view_changes : fields of `autodidact.views.Augment` to change in both views.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        momentum: float = 0.996,
        hidden: int = 512,
        dimensions: int = 256,
        view: str = "auto",
        view_changes: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            encoder,
            projector(encoder.width, hidden, dimensions),
            predictor(dimensions, hidden),
            augment_pair(encoder, view, view_changes),
            momentum=(momentum, 1.0),
        )
