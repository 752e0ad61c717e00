"""MoCo v3: a prediction from one view finds the slow copy's key of the other among those of the batch."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from autodidact.catalog import Card
from autodidact.heads import projector
from autodidact.methods.method import Group
from autodidact.methods.other_view import OtherView
from autodidact.methods.two_views import augment_pair
from autodidact.model import Encoder
from autodidact.objectives import cross_view_contrast

CARD = Card(
    name="moco_v3",
    target="MoCoV3",
    kind="method",
    title="MoCo v3",
    paper="Chen, Xie, He: An Empirical Study of Training Self-Supervised Vision Transformers (2104.02057, 2021)",
    summary="SimCLR for vision transformers: a predictor, keys of a slow copy, and a patch projection left at random.",
    needs=(("image", "image"),),
    arguments=("temperature", "momentum", "freeze_patches"),
    encoder="small:vit",
)


class MoCoV3(OtherView):
    """MoCo v3 (arXiv 2104.02057, algorithm 1 and section 4).

    Queries are predictions from one view, keys the slow copy's projections of the other; the other images' keys of the
    batch repel, there is no queue. A vision transformer's patch projection stays at its random start, which the paper
    found to keep training stable. The paper's transformers have fixed sinusoidal positions; here positions are those of
    the encoder, learned in ``small:vit``. The network itself is kept, not its slow copy.

    Parameters
    ----------
    encoder : image encoder.
    temperature : divides the cosine similarities. Paper: 0.2.
    momentum : of the slow copy at the first update, in (0, 1]; it rises to 1 by a cosine. Paper: 0.99.
    freeze_patches : whether the patch projection stays as it is. Paper: yes, with vision transformers. None: where it
        exists.
    layers : of the projector. Paper: 3 for vision transformers, 2 for ResNets.
    norm_prediction : whether a BatchNorm ends the predictor. Paper: yes for vision transformers, no for ResNets.
    hidden : width of the hidden layers of projector and predictor. Paper: 4096.
    dimensions : width of the projections. Paper: 256.
    view : "auto" uses BYOL's two different augmentations on colour images; else the name of one for both.
    view_changes : fields of `autodidact.views.Augment` to change in both views.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        temperature: float = 0.2,
        momentum: float = 0.99,
        freeze_patches: bool | None = None,
        layers: int = 3,
        norm_prediction: bool = True,
        hidden: int = 512,
        dimensions: int = 256,
        view: str = "auto",
        view_changes: dict[str, Any] | None = None,
    ) -> None:
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        if not momentum:
            raise ValueError("momentum is that of the slow copy that makes the keys and must not be 0")
        if freeze_patches and encoder.patch_projection is None:
            raise ValueError(f"{encoder.name} has no patch projection to freeze; leave freeze_patches out")
        super().__init__(
            encoder,
            projector(encoder.width, hidden, dimensions, layers=layers, norm_last=True),
            projector(dimensions, hidden, dimensions, norm_last=norm_prediction, bias_last=False),
            augment_pair(encoder, view, view_changes),
            momentum=(momentum, 1.0),
        )
        self.temperature, self.freeze_patches = temperature, freeze_patches

    def compared(self, said: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor]) -> Tensor:
        # What is wanted of each view is already the key of the other one.
        return cross_view_contrast(said, (wanted[1], wanted[0]), self.temperature)

    def groups(self) -> list[Group]:
        if self.encoder.patch_projection is None or self.freeze_patches is False:
            return super().groups()
        patches = list(self.encoder.patch_projection.parameters())
        still = set(patches)
        return [
            Group("network", [p for p in self.parameters() if p.requires_grad and p not in still]),
            Group("patch projection", patches, frozen_share=1.0),
        ]
