"""Rotation: by how many quarter turns was an image turned? To answer, a network must know what is shown."""

from __future__ import annotations

from typing import Any

from autodidact.catalog import Card
from autodidact.methods.pretext import PretextMethod, RotationTask
from autodidact.methods.two_views import gentle_augment_for
from autodidact.model import Encoder

CARD = Card(
    name="rotation",
    target="Rotation",
    kind="method",
    title="Rotation prediction (RotNet)",
    paper="Gidaris, Singh, Komodakis: Unsupervised Representation Learning by Predicting Image Rotations (1803.07728, "
    "2018)",
    summary="A network says by how many quarter turns an image was turned; for images that have an upright.",
    needs=(("image", "image"),),
    arguments=("hidden", "view"),
    encoder="small:convnet",
)


class Rotation(PretextMethod):
    """Rotation prediction (arXiv 1803.07728, section 3).

    Every image is shown under all four quarter turns, each with an augmentation of its own before the turn, and the
    embedding says which it is. An update forwards four times as many images as the batch has. It teaches nothing where
    images have no upright. With a vision transformer the embedding is the class token, or the mean of the patch tokens
    under ``pool=avg``.

    Parameters
    ----------
    encoder : encoder of square images.
    hidden : width of a hidden layer of the head; 0 for a linear one, as in the paper.
    dropout : probability behind the hidden layer.
    view : augmentation by name; "auto" is "weak" (crop and flip) for colour images, and for others "tiny" up to 16
        pixels a side, "grey" above.
    view_changes : fields of `autodidact.views.Augment` to change.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        hidden: int = 0,
        dropout: float = 0.0,
        view: str = "auto",
        view_changes: dict[str, Any] | None = None,
    ) -> None:
        if hidden < 0 or not 0 <= dropout < 1:
            raise ValueError(f"hidden must not be negative and dropout lies in [0, 1), got {hidden} and {dropout}")
        augment = gentle_augment_for(encoder, view, view_changes)
        task = RotationTask(encoder, augment, hidden=(hidden,) if hidden else (), dropout=dropout)
        super().__init__(encoder, task)
