"""iBOT: DINO on the class token, and the same on masked patches, whose prototypes the slow copy sees."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from autodidact.catalog import Card
from autodidact.data.batch import Batch
from autodidact.methods.masked_patches import image_transformer
from autodidact.methods.method import Loss, Progress, Views
from autodidact.methods.self_distilling import CENTRE_MOMENTUM, Centring, SelfDistilling
from autodidact.methods.two_views import LARGE_VIEWS, shown_views
from autodidact.model import Encoder, Masked
from autodidact.objectives import dino_loss, masked_distillation, teacher_assignments
from autodidact.targets import Centre
from autodidact.views import block_mask
from autodidact.views.parcel import sent

CARD = Card(
    name="ibot",
    target="IBOT",
    kind="method",
    title="iBOT",
    paper="Zhou, Wei, Wang et al.: iBOT, Image BERT Pre-Training with Online Tokenizer (2111.07832, 2022)",
    summary="DINO with masked patches: the student also says which prototypes its slow copy sees where it saw nothing.",
    needs=(("image", "image"),),
    arguments=("prototypes", "ratio", "lam", "teacher_temperature", "momentum"),
    encoder="small:vit",
)


class IBOT(SelfDistilling):
    """Image BERT with an online tokenizer (arXiv 2111.07832, section 3).

    The large views are shown to the student with mask tokens in the place of some blocks of patches, to the slow copy
    as they are. The loss is that of `dino` on the pooled output (the class token), and ``lam`` times the cross-entropy
    of what the slow copy says of the masked patches of the same view. One head serves both; each has a centre of its
    own. The slow copy is kept.

    The share of masked patches is drawn anew for every view of every batch, and is the same for all of its images that
    are masked; the authors draw it for every image.

    Parameters
    ----------
    encoder : plain vision transformer; for small views it must take images of two sizes.
    prototypes : outputs of the head. Paper: 8192.
    ratio : lowest and highest share of the patches that are masked, in (0, 1). Paper: 0.1 and 0.5.
    mask_p : probability that an image's view is masked at all. Paper: 0.5.
    lam : weight of the masked patches. Paper: 1.
    temperature : of the student's softmax. Paper: 0.1.
    teacher_temperature : of the teacher's, at the first update and after its warm-up. Paper: 0.04 and 0.07.
    temperature_warmup : share of the training in which the teacher's temperature rises. Paper: 30 epochs of 300 to 800.
    momentum : of the slow copy at the first update, in [0, 1]; it rises to 1 by a cosine. Paper: 0.996 with batches of
        1024; less for short trainings.
    centring : "mean" takes the slow mean off the teacher's scores; "sinkhorn" spreads each batch, of images and of
        patches, over the prototypes by Sinkhorn-Knopp instead.
    centre_momentum : share of the old means that stays in every update. Paper: 0.9. Of "mean" only.
    frozen : share of the training in which the prototypes stay as they are. Paper: the first epoch.
    local_count : small views beside the two large ones, without masks. Paper: 10; 0 for none.
    local_size : side of the small views in pixels; 0 for 96/224 of the image's, as in the paper, or half of it where
        images have up to 64 pixels, in whole patches.
    global_scale : share of the image's area in a large view. None: the paper's (0.32, 1), or that of the augmentation
        where images have up to 64 pixels.
    local_scale : share of the image's area in a small view. None: the paper's (0.05, 0.32), or (0.2, 0.5) where images
        have up to 64 pixels.
    hidden : width of the head's inner layers. Paper: 2048.
    bottleneck : size of what is compared with the prototypes. Paper: 256.
    layers : of the head before the prototypes. Paper: 3.
    view : augmentation by name: "auto", "simclr", "grey", "tiny", "weak", ...
    view_changes : fields of `autodidact.views.Augment` to change in all views.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        prototypes: int = 1024,
        ratio: tuple[float, float] = (0.1, 0.5),
        mask_p: float = 0.5,
        lam: float = 1.0,
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
        view: str = "auto",
        view_changes: dict[str, Any] | None = None,
    ) -> None:
        grid = image_transformer(encoder, "ibot", any_tokens=True).patches
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
            usual=((0.32, 1.0), (0.05, 0.32)),
            hidden=hidden,
            bottleneck=bottleneck,
            layers=layers,
            norm=None,
            view=view,
            view_changes=view_changes,
        )
        if len(ratio) != 2 or not 0 < ratio[0] <= ratio[1] < 1:
            raise ValueError(f"ratio is the lowest and the highest share of masked patches, in (0, 1), got {ratio}")
        if not 0 <= mask_p <= 1 or lam < 0:
            raise ValueError(f"mask_p is a probability and lam must not be negative, got {mask_p} and {lam}")
        if encoder.width != encoder.token_width:
            raise ValueError(f"one head reads embedding and patches; {encoder.name} has them of different sizes")
        self.grid, self.ratio, self.mask_p, self.lam = grid, (float(ratio[0]), float(ratio[1])), mask_p, lam
        self.mask_token = nn.Parameter(torch.empty(encoder.token_width))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        self.patch_centre = Centre(prototypes, centre_momentum) if centring == "mean" else None

    def completed(self, views: Views, batch: Batch, progress: Progress) -> Views:
        generator, n, (low, high) = progress.generator, len(views["a"]), self.ratio
        masks = []
        for _ in range(LARGE_VIEWS):
            drawn = torch.rand(1 + n, generator=generator, device=generator.device)
            count = max(1, round((low + (high - low) * float(drawn[0])) * self.grid[0] * self.grid[1]))
            masks.append(block_mask(n, self.grid, count, generator) & (drawn[1:, None] < self.mask_p))
        views.named["masked"] = sent(torch.cat(masks), views["a"].device)
        return views

    def loss(self, views: Views, progress: Progress) -> Loss:
        shown = [views[name] for name in shown_views(views)]
        images, n = torch.cat(shown[:LARGE_VIEWS]), len(shown[0])
        large = self.encoder(images, masked=Masked(views["masked"], self.mask_token))
        small = [self._pooled_by_size(shown[LARGE_VIEWS:])] if len(shown) > LARGE_VIEWS else []
        student = self.head(torch.cat([large.pooled, *small])).chunk(len(shown))
        seen, heat = self.slow_encoder(images), self.teacher_heat(progress)
        teacher, patches = self.slow_head(seen.pooled), self.slow_head(seen.tokens)
        images_loss = dino_loss(
            student,
            teacher.chunk(LARGE_VIEWS),
            self.heard(teacher, self.centre),
            student_temperature=self.temperature,
            teacher_temperature=heat,
        )
        rows = patches.flatten(0, 1)
        said = teacher_assignments(rows, self.heard(rows, self.patch_centre), heat).view_as(patches)
        patches_loss = masked_distillation(self.head(large.tokens), said, views["masked"], self.temperature)
        return Loss(
            images_loss + self.lam * patches_loss,
            {"images": images_loss, "patches": patches_loss},
            {"embedding": large.pooled[:n], "projection": student[0], "projection_b": student[1]},
        )
