"""Jigsaw: in which order do the tiles of an image lie? To answer, a network must know what parts belong where."""

from __future__ import annotations

from typing import Any

from autodidact.catalog import Card
from autodidact.methods.pretext import JigsawTask, PretextMethod
from autodidact.methods.two_views import gentle_augment_for
from autodidact.model import Encoder

CARD = Card(
    name="jigsaw",
    target="Jigsaw",
    kind="method",
    title="Jigsaw puzzles",
    paper="Noroozi, Favaro: Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles (1603.09246, "
    "2016)",
    summary="A network sees the nine tiles of an image one by one and says in which order they were laid.",
    needs=(("image", "image"),),
    arguments=("orders", "gap", "normalise"),
    encoder="small:convnet",
)


class Jigsaw(PretextMethod):
    """Jigsaw puzzles (arXiv 1603.09246, section 3).

    The 3 x 3 tiles of an augmented image are embedded one by one, and a head that reads all nine says in which of a few
    orders they lie. Nothing else may tell: tiles are cut with gaps at random places, so that lines do not go on from
    one to the next, and each is shown in units of its own mean and spread. Against what lenses do to colours the
    authors also move the channels by up to 2 pixels and show some images in grey; the first is not made here, the
    second is ``view_changes={grey_p: 0.3}``. Each tile is shown at the full size of the encoder's images, so an update
    costs nine times as many images as the batch has.

    Parameters
    ----------
    encoder : image encoder.
    orders : number of orders, as far from each other as can be. Paper: up to 1000, which is the hardest and the best.
    gap : share of a tile's side that is left out between it and the next, in [0, 1). Paper: 11 of 75 pixels.
    normalise : whether each tile is shown in units of its own mean and spread. Paper: yes.
    each : width of the head's layer that every tile passes. Paper: 1024.
    together : width of the head's layer that reads all tiles. Paper: 4096.
    dropout : probability behind both. Paper: 0.5.
    view : augmentation of the whole image by name; "auto" is "weak" (crop and flip) for colour images, and for others
        "tiny" up to 16 pixels a side, "grey" above.
    view_changes : fields of `autodidact.views.Augment` to change.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        orders: int = 100,
        gap: float = 0.15,
        normalise: bool = True,
        each: int = 256,
        together: int = 512,
        dropout: float = 0.5,
        view: str = "auto",
        view_changes: dict[str, Any] | None = None,
    ) -> None:
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is a probability in [0, 1), got {dropout}")
        if orders < 2:
            raise ValueError(f"at least 2 orders are needed to tell apart, got {orders}")
        task = JigsawTask(
            encoder,
            gentle_augment_for(encoder, view, view_changes),
            orders=orders,
            gap=gap,
            normalise=normalise,
            each=each,
            together=together,
            dropout=dropout,
        )
        super().__init__(encoder, task)
