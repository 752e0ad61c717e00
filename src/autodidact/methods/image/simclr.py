"""SimCLR: two views of one image attract, all other images of the batch repel."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from autodidact.catalog import Card
from autodidact.heads import projector
from autodidact.methods.method import Progress, Views
from autodidact.methods.two_views import TwoViews, augment_for
from autodidact.model import Encoder
from autodidact.objectives import info_nce

CARD = Card(
    name="simclr",
    target="SimCLR",
    kind="method",
    title="SimCLR (NT-Xent)",
    paper="Chen, Kornblith, Norouzi, Hinton: A Simple Framework for Contrastive Learning (2002.05709, 2020)",
    summary="Two augmented views of an image attract, the other images of the batch repel; the baseline of the family.",
    needs=(("image", "image"),),
    arguments=("temperature", "layers", "view"),
    search=(("temperature", "0.05:1:log"),),
    encoder="small:convnet",
)


class SimCLR(TwoViews):
    """SimCLR (arXiv 2002.05709, sections 2 and 3).

    Parameters
    ----------
    encoder : image encoder.
    temperature : divides the cosine similarities; smaller looks harder at near negatives. Paper: 0.1 for long
        training, 0.5 for CIFAR-10.
    hidden : width of the projector's hidden layers; 0 for the encoder's width.
    dimensions : width of the projections.
    layers : of the projector. Paper: 2; SimCLR v2 (2006.10029): 3.
    norm_last : whether a BatchNorm with scale and without shift ends the projector, as in SimCLR v2.
    view : augmentation by name: "auto", "simclr", "grey", "tiny", "weak", "barlow_a", ...
    view_changes : fields of `autodidact.views.Augment` to change, for example ``{blur_p: 0}``.
    """

    heeds_allowed = True

    def __init__(
        self,
        encoder: Encoder,
        *,
        temperature: float = 0.1,
        hidden: int = 0,
        dimensions: int = 128,
        layers: int = 2,
        norm_last: bool = False,
        view: str = "auto",
        view_changes: dict[str, Any] | None = None,
    ) -> None:
        augment = augment_for(encoder, view, view_changes)
        self.head_args: dict[str, Any] = {
            "width": encoder.width,
            "hidden": hidden or encoder.width,
            "out": dimensions,
            "layers": layers,
            "norm_last": norm_last,
            "scale_last": norm_last,
        }
        super().__init__(encoder, projector(**self.head_args), (augment, augment))
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        self.temperature = temperature

    def objective(self, z1: Tensor, z2: Tensor, views: Views, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        return info_nce(z1, z2, self.temperature, allowed=views.allowed), {}
