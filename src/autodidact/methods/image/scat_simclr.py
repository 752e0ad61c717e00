"""ScatSimCLR: SimCLR on wavelet scattering, with rotation or jigsaw beside the contrast, for small sets of images."""

from __future__ import annotations

from typing import Any, get_args

from torch import Tensor

from autodidact.catalog import Card, unknown
from autodidact.data.batch import Batch
from autodidact.heads import projector
from autodidact.methods.method import Loss, Progress, Views
from autodidact.methods.pretext import PretextName, pretext_task
from autodidact.methods.two_views import TwoViews, augment_for
from autodidact.model import Encoder
from autodidact.objectives import info_nce

CARD = Card(
    name="scat_simclr",
    target="ScatSimCLR",
    kind="method",
    number=62,
    title="ScatSimCLR",
    paper="Kinakh, Taran, Voloshynovskiy: Self-supervised Contrastive Learning with Pretext Task Regularization "
    "(2108.13939, 2021)",
    summary="SimCLR with a rotation or jigsaw task beside it, on fixed wavelets and a small trained adapter.",
    needs=(("image", "image"),),
    arguments=("pretext", "lam", "temperature"),
    claim="scat_simclr",
    encoder="small:scatnet",
)


class ScatSimCLR(TwoViews):
    """ScatSimCLR (arXiv 2108.13939, section 3): ``L = NT-Xent + lam * (cross-entropy of the pretext task)``.

    The wavelets are those of the encoder ``small:scatnet``; with another encoder it is SimCLR with a pretext task. The
    task sees each image 4 times (rotation) or its 9 tiles (jigsaw), in a forward pass of its own, beside the 2 views
    of the contrast. Views are turned after they are augmented, the paper's before: of a mirrored image nobody could
    tell a turn to the left from one to the right. Rotation teaches nothing where images have no upright. The projector
    is SimCLR's, with a BatchNorm between its two layers, where the paper's has none (Linear, ReLU, Linear).

    Parameters
    ----------
    encoder : image encoder; "small:scatnet" is the paper's.
    pretext : "rotation" (square images only) or "jigsaw".
    lam : weight of the pretext task; 0 leaves it out, which is plain SimCLR. Paper: 0.3.
    pretext_dropout : probability in the head of the pretext task. Paper: 0.5.
    temperature : divides the cosine similarities. Paper: 0.5.
    hidden : width of the projector's hidden layer; 0 for the encoder's width.
    dimensions : width of the projections. Paper: 128.
    view : augmentation by name: "auto", "simclr", "grey", "tiny", "weak", ...
    view_changes : fields of `autodidact.views.Augment` to change, for example ``{blur_p: 0}``.
    """

    heeds_allowed = True

    def __init__(
        self,
        encoder: Encoder,
        *,
        pretext: PretextName = "rotation",
        lam: float = 0.3,
        pretext_dropout: float = 0.5,
        temperature: float = 0.5,
        hidden: int = 0,
        dimensions: int = 128,
        view: str = "auto",
        view_changes: dict[str, Any] | None = None,
    ) -> None:
        augment = augment_for(encoder, view, view_changes)
        super().__init__(encoder, projector(encoder.width, hidden or encoder.width, dimensions), (augment, augment))
        if temperature <= 0 or lam < 0:
            raise ValueError(f"temperature must be positive and lam not negative, got {temperature} and {lam}")
        if not 0 <= pretext_dropout < 1:
            raise ValueError(f"pretext_dropout is a probability in [0, 1), got {pretext_dropout}")
        if pretext not in get_args(PretextName):
            raise unknown("pretext task", str(pretext), get_args(PretextName))
        self.temperature, self.lam = temperature, lam
        self.pretext = pretext_task(pretext, encoder, augment, pretext_dropout) if lam else None

    def objective(self, z1: Tensor, z2: Tensor, views: Views, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        return info_nce(z1, z2, self.temperature, allowed=views.allowed), {}

    def completed(self, views: Views, batch: Batch, progress: Progress) -> Views:
        if self.pretext is not None:
            views.named["pretext"], views.named["done"] = self.pretext.views(batch, progress.generator)
        return views

    def loss(self, views: Views, progress: Progress) -> Loss:
        loss = super().loss(views, progress)
        if self.pretext is not None:
            loss.terms = {
                "contrast": loss.total,
                "pretext": self.pretext.loss(self.encoder, views["pretext"], views["done"]),
            }
            loss.total = loss.total + self.lam * loss.terms["pretext"]
        return loss
