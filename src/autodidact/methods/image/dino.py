"""DINO: a student says of small crops which prototypes its slow copy sees in large ones; there are no negatives."""

from __future__ import annotations

from typing import Any, Literal

import torch

from autodidact.catalog import Card
from autodidact.methods.method import Loss, Progress, Views
from autodidact.methods.self_distilling import CENTRE_MOMENTUM, Centring, SelfDistilling
from autodidact.methods.two_views import LARGE_VIEWS
from autodidact.model import Encoder
from autodidact.objectives import dino_loss

CARD = Card(
    name="dino",
    target="DINO",
    kind="method",
    title="DINO",
    paper="Caron, Touvron, Misra et al.: Emerging Properties in Self-Supervised Vision Transformers (2104.14294, 2021)",
    summary="A student matches its slow copy's softmax over prototypes, from small crops to large ones; no negatives.",
    needs=(("image", "image"),),
    arguments=("prototypes", "teacher_temperature", "momentum", "local_count", "centring"),
    encoder="small:vit",
)


class DINO(SelfDistilling):
    """Self-distillation without labels (arXiv 2104.14294, section 3).

    With t the scores of the slow copy on a large view, s those of the network on any other view and c the slow mean of
    t, the loss is the cross-entropy of ``softmax((t - c) / T_t)`` under ``softmax(s / T_s)``. The mean keeps one
    prototype from winning everywhere, the low temperature keeps all from being alike; without either it collapses.

    The slow copy is kept: it is the better network throughout. On colour images "auto" is the paper's: a different
    augmentation for each large view, and half of the small ones blurred.

    Parameters
    ----------
    encoder : image encoder; for small views it must take images of two sizes.
    prototypes : outputs of the head. Paper: 65536 for a million images.
    temperature : of the student's softmax. Paper: 0.1.
    teacher_temperature : of the teacher's, at the first update and after its warm-up. Paper: 0.04 and 0.07.
    temperature_warmup : share of the training in which the teacher's temperature rises. Paper: 30 epochs of 100 to 800.
    momentum : of the slow copy at the first update, in [0, 1]; it rises to 1 by a cosine. Paper: 0.996 with batches of
        1024; less for short trainings.
    centring : "mean" takes the slow mean off the teacher's scores; "sinkhorn" spreads each batch over the prototypes by
        Sinkhorn-Knopp instead, as DINOv2 (2304.07193) does.
    centre_momentum : share of the old mean that stays in every update. Paper: 0.9. Of "mean" only.
    frozen : share of the training in which the prototypes stay as they are. Paper: the first epoch.
    local_count : small views beside the two large ones. Paper: 8 to 10; 0 for none.
    local_size : side of the small views in pixels; 0 for 96/224 of the image's, as in the paper, or half of it where
        images have up to 64 pixels, in whole patches.
    global_scale : share of the image's area in a large view. None: the paper's (0.4, 1), or that of the augmentation
        where images have up to 64 pixels.
    local_scale : share of the image's area in a small view. None: the paper's (0.05, 0.4), or (0.2, 0.5) where images
        have up to 64 pixels.
    hidden : width of the head's inner layers. Paper: 2048.
    bottleneck : size of what is compared with the prototypes. Paper: 256.
    layers : of the head before the prototypes. Paper: 3.
    norm : "batch" norms the head's inner layers; None does not. Paper: none, with vision transformers.
    view : augmentation by name: "auto", "simclr", "grey", "tiny", "weak", ...
    view_changes : fields of `autodidact.views.Augment` to change in all views.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        prototypes: int = 1024,
        temperature: float = 0.1,
        teacher_temperature: tuple[float, float] = (0.04, 0.07),
        temperature_warmup: float = 0.3,
        momentum: float = 0.996,
        centring: Centring = "mean",
        centre_momentum: float = CENTRE_MOMENTUM,
        frozen: float = 0.01,
        local_count: int = 4,
        local_size: int = 0,
        global_scale: tuple[float, float] | None = None,
        local_scale: tuple[float, float] | None = None,
        hidden: int = 512,
        bottleneck: int = 128,
        layers: int = 3,
        norm: Literal["batch"] | None = None,
        view: str = "auto",
        view_changes: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            encoder,
            prototypes=prototypes,
            temperature=temperature,
            teacher_temperature=teacher_temperature,
            temperature_warmup=temperature_warmup,
            momentum=momentum,
            centring=centring,
            centre_momentum=centre_momentum,
            frozen=frozen,
            local_count=local_count,
            local_size=local_size,
            global_scale=global_scale,
            local_scale=local_scale,
            usual=((0.4, 1.0), (0.05, 0.4)),
            hidden=hidden,
            bottleneck=bottleneck,
            layers=layers,
            norm=norm,
            view=view,
            view_changes=view_changes,
        )

    def loss(self, views: Views, progress: Progress) -> Loss:
        shown = list(views.named.values())
        h = self._pooled_by_size(shown)
        student = self.head(h).chunk(len(shown))
        teacher = self.slow_head(self.slow_encoder(torch.cat(shown[:LARGE_VIEWS])).pooled)
        total = dino_loss(
            student,
            teacher.chunk(LARGE_VIEWS),
            self.heard(teacher, self.centre),
            student_temperature=self.temperature,
            teacher_temperature=self.teacher_heat(progress),
        )
        return Loss(total, {}, {"embedding": h[: len(shown[0])], "projection": student[0], "projection_b": student[1]})
