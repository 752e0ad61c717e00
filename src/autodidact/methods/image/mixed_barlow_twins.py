"""Mixed Barlow Twins: Barlow Twins that also asks for embeddings of mixed images to be mixtures of embeddings."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from autodidact.catalog import Card
from autodidact.data.batch import Batch
from autodidact.heads import projector
from autodidact.methods.method import Progress, Views
from autodidact.methods.two_views import TwoViews, augment_pair
from autodidact.model import Encoder
from autodidact.objectives import barlow_twins, mixing_gap
from autodidact.schedules import linear_ramp
from autodidact.views import draw_mixing, mix
from autodidact.views.parcel import sent

CARD = Card(
    name="mixed_barlow_twins",
    target="MixedBarlowTwins",
    kind="method",
    number=40,
    title="Mixed Barlow Twins",
    paper="Bandara, De Melo, Patel: Guarding Barlow Twins Against Overfitting with Mixed Samples (2312.02151, 2023)",
    summary="Barlow Twins for long training on few images: mixed images should be embedded as the mixtures.",
    needs=(("image", "image"),),
    arguments=("lam_reg", "lambd", "dimensions"),
    claim="mixed_barlow_twins",
    encoder="small:convnet",
)


class MixedBarlowTwins(TwoViews):
    """Mixed Barlow Twins (arXiv 2312.02151, section 3).

    ``L = L_BT + lam_reg * lambd * gap``: the loss of Barlow Twins, and how far the cross-correlations of mixed images
    are from the mixtures of those of their parts (`autodidact.objectives.mixing_gap`). The paper and the authors' code
    for ImageNet put a factor 1/2 to the gap, that for small data does not, and neither does this. With ``lam_reg=0``
    nothing is mixed and this is Barlow Twins. An update costs half as much again, for the third pass.

    Parameters
    ----------
    encoder : image encoder.
    lam_reg : weight of the gap, relative to that of the decorrelation. Paper: 4 on CIFAR and TinyImageNet, 2 on STL-10,
        1 to 2 on ImageNet.
    lambd : weight of the decorrelation. Paper: 1/128 on small data, 0.0051 on ImageNet.
    ramp : share of the updates during which `lam_reg` rises linearly from 0, in [0, 1]. The authors' code for ImageNet:
        the warm-up.
    restandardise : compare with mixtures that are standardised again, so that a linear encoder has no gap. Paper: no.
    stop_target : let no gradient through the mixtures that are compared with. Paper: no.
    unbiased : standardise by the unbiased variance, as the authors' code does and that of Barlow Twins does not.
    normalise : divide every projection by its length first, as the authors' code for small data does.
    dimensions : width of the projections and of the projector's hidden layers. Paper: 1024 on small data, 8192.
    view : "auto" uses Barlow Twins' two different augmentations on colour images; else the name of one for both.
    view_changes : fields of `autodidact.views.Augment` to change in both views.
    """

    one_forward = False

    def __init__(
        self,
        encoder: Encoder,
        *,
        lam_reg: float = 4.0,
        lambd: float = 0.0078125,
        ramp: float = 0.0,
        restandardise: bool = False,
        stop_target: bool = False,
        unbiased: bool = False,
        normalise: bool = False,
        dimensions: int = 512,
        view: str = "auto",
        view_changes: dict[str, Any] | None = None,
    ) -> None:
        head = projector(encoder.width, dimensions, dimensions, layers=3, bias_last=False)
        super().__init__(encoder, head, augment_pair(encoder, view, view_changes))
        if lam_reg < 0 or lambd < 0:
            raise ValueError(f"lam_reg and lambd must not be negative, got {lam_reg} and {lambd}")
        if not 0 <= ramp <= 1:
            raise ValueError(f"ramp is a share of the updates in [0, 1], got {ramp}")
        self.lam_reg, self.lambd, self.ramp = lam_reg, lambd, ramp
        self.restandardise, self.stop_target = restandardise, stop_target
        self.unbiased, self.normalise = unbiased, normalise

    def completed(self, views: Views, batch: Batch, progress: Progress) -> Views:
        if self.lam_reg:
            drawn = draw_mixing(len(views["a"]), progress.generator)
            order, share = (sent(part, views["a"].device) for part in drawn)
            mixed = mix(views["a"], views["b"], order, share)
            views.named |= {"mixed": mixed, "order": order, "share": share}
        return views

    @property
    def takes_more_views(self) -> bool:
        """False: what is mixed are the two views."""
        return False

    def redundancy(self, z1: Tensor, z2: Tensor) -> Tensor:
        """The loss of Barlow Twins on scaled projections."""
        return barlow_twins(z1, z2, self.lambd, unbiased=self.unbiased)

    def objective(self, z1: Tensor, z2: Tensor, views: Views, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        z1, z2 = self._scaled(z1), self._scaled(z2)
        redundancy = self.redundancy(z1, z2)
        if not self.lam_reg:
            return redundancy, {}
        gap = mixing_gap(
            self._scaled(self.projector(self._pooled(views["mixed"]))),
            z1,
            z2,
            views["order"],
            views["share"],
            restandardise=self.restandardise,
            stop_target=self.stop_target,
            unbiased=self.unbiased,
        )
        rising = round(self.ramp * progress.total)
        weight = linear_ramp(progress.step, rising, 0.0, self.lam_reg) if rising else self.lam_reg
        return redundancy + weight * self.lambd * gap, {"redundancy": redundancy, "gap": gap}

    def _scaled(self, z: Tensor) -> Tensor:
        # Of a unit vector each column has a variance of about 1 / D, beside which the eps of standardising would count.
        return 100 * z.shape[1] ** 0.5 * torch.nn.functional.normalize(z, dim=1) if self.normalise else z
