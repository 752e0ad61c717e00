"""What methods share that learn from a slow copy of themselves which prototypes an image is like, without negatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from autodidact.encoders.kept import EncoderModel
from autodidact.heads import PrototypeHead
from autodidact.methods.method import Group, Progress
from autodidact.methods.two_views import Scale, SeveralViews, augment_pair, large_and_small
from autodidact.model import Encoder, Model
from autodidact.schedules import cosine_ramp, linear_ramp
from autodidact.targets import Centre, slow_copy

Centring = Literal["mean", "sinkhorn"]
CENTRE_MOMENTUM = 0.9
"""Of DINO, iBOT and their successors."""


class SelfDistilling(SeveralViews):
    """Student, teacher and prototypes of DINO (arXiv 2104.14294, section 3); subclasses say what is compared.

    The teacher, a slow copy of encoder and head, sees large views only; the student sees all. Batch norms of the
    teacher use batch statistics; nothing is dropped at random there. The head's prototypes stay as they are for the
    first share of the training.

    Parameters
    ----------
    encoder : image encoder; for small views it must take images of two sizes.
    prototypes, hidden, bottleneck, layers, norm : see `PrototypeHead`.
    temperature : of the student.
    teacher_temperature : at the first update, and from the end of the warm-up on.
    temperature_warmup : share of the training in which the teacher's temperature goes from one to the other.
    momentum : of the teacher at the first update; it rises to 1 by a cosine.
    centring : what keeps the teacher from collapsing, "mean" or "sinkhorn".
    centre_momentum : of the mean.
    frozen : share of the training in which the prototypes stay as they are.
    local_count, local_size, global_scale, local_scale : see `autodidact.methods.two_views.large_and_small`.
    usual : the paper's scales of large and small views.
    view, view_changes : augmentation of large views as for `augment_pair`; that of small views is the first one's, on
        colour images with a blur in half of them.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        prototypes: int,
        temperature: float,
        teacher_temperature: Sequence[float],
        temperature_warmup: float,
        momentum: float,
        centring: Centring,
        centre_momentum: float,
        frozen: float,
        local_count: int,
        local_size: int,
        global_scale: Scale,
        local_scale: Scale,
        usual: tuple[tuple[float, float], tuple[float, float]],
        hidden: int,
        bottleneck: int,
        layers: int,
        norm: Literal["batch"] | None,
        view: str,
        view_changes: dict[str, Any] | None,
    ) -> None:
        super().__init__()
        if len(teacher_temperature) != 2 or min(*teacher_temperature, temperature) <= 0:
            raise ValueError(
                "temperatures must be positive, the teacher's two of them (at first, after the warm-up); got "
                f"{temperature} and {teacher_temperature}"
            )
        for name, share in (("temperature_warmup", temperature_warmup), ("frozen", frozen)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name} is a share of the training in [0, 1], got {share}")
        if prototypes < 2:
            raise ValueError(f"at least 2 prototypes are needed, got {prototypes}")
        if centring not in ("mean", "sinkhorn"):
            raise ValueError(f"centring must be mean or sinkhorn, got '{centring}'")
        if centring == "sinkhorn" and centre_momentum != CENTRE_MOMENTUM:
            raise ValueError(f"centre_momentum {centre_momentum} is of no use under sinkhorn, which keeps no mean")
        self.encoder, self.temperature, self.temperature_warmup = encoder, temperature, temperature_warmup
        self.teacher_temperature = (float(teacher_temperature[0]), float(teacher_temperature[1]))
        self.momentum, self.frozen = momentum, frozen
        first, second = augment_pair(encoder, view, view_changes)
        self.augments = large_and_small(
            encoder,
            (first, second),
            first if first == second else replace(first, blur_p=0.5),
            count=local_count,
            size=local_size,
            scales=(global_scale, local_scale),
            usual=usual,
        )
        self.head = PrototypeHead(
            encoder.width, prototypes, hidden=hidden, bottleneck=bottleneck, layers=layers, norm=norm
        )
        self.slow_encoder, self.slow_head = slow_copy(encoder, momentum), slow_copy(self.head, momentum)
        self.centre = Centre(prototypes, centre_momentum) if centring == "mean" else None
        self.said: list[tuple[Centre, Tensor]] = []

    def teacher_heat(self, progress: Progress) -> float:
        """The teacher's temperature at this update."""
        first, last = self.teacher_temperature
        if not self.temperature_warmup:
            return last
        return linear_ramp(progress.step, max(1, round(self.temperature_warmup * progress.total)), first, last)

    def heard(self, scores: Float[Tensor, "rows k"], centre: Centre | None) -> Float[Tensor, " k"] | None:
        """The centre to take off the teacher's scores, which it will follow after the update."""
        if centre is None:
            return None
        if self.training:
            self.said.append((centre, scores))
        return centre.value

    def after_update(self, progress: Progress) -> None:
        for centre in {id(centre): centre for centre, _ in self.said}.values():
            centre.update(torch.cat([scores for of, scores in self.said if of is centre]))
        self.said.clear()
        momentum = cosine_ramp(progress.step, progress.total, self.momentum, 1.0)
        self.slow_encoder.update(self.encoder, momentum)
        self.slow_head.update(self.head, momentum)

    def groups(self) -> list[Group]:
        prototypes = self.head.prototypes
        network = [p for p in self.parameters() if p.requires_grad and p is not prototypes]
        return [Group("network", network), Group("prototypes", [prototypes], frozen_share=self.frozen)]

    def kept(self) -> Model:
        """The teacher's encoder, as a copy that can be trained again: it is the better one throughout (section 5.2)."""
        return EncoderModel({"encoder": self.slow_encoder.copied()})
