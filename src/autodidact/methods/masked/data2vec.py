"""data2vec: from an image with masked patches, say what a slow copy of the network makes of the whole image."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from autodidact.catalog import Card
from autodidact.methods.masked_patches import Masking, MaskTokens
from autodidact.methods.method import Loss, Progress, Views
from autodidact.model import Encoder
from autodidact.objectives import latent_smooth_l1
from autodidact.targets import EMATeacher, unit_tokens
from autodidact.views import gather_tokens

CARD = Card(
    name="data2vec",
    target="Data2Vec",
    kind="method",
    title="data2vec",
    paper="Baevski, Hsu, Xu, Babu, Gu, Auli: data2vec, a General Framework for Self-supervised Learning (2202.03555, "
    "2022)",
    summary="Masks patches and predicts the latents that a slow copy, which sees all of the image, has in their place.",
    needs=(("image", "image"),),
    arguments=("ratio", "masking", "top", "momentum"),
    encoder="small:vit",
)


class Data2Vec(MaskTokens):
    """data2vec for images (arXiv 2202.03555, section 3).

    The target of a masked patch is the mean, over the last `top` blocks of the slow copy, of its token behind the
    block, each normalised to mean 0 and variance 1 over its entries. A linear layer on the network's last token says
    it; the loss is smooth L1.

    All weights of the copy are averages, as in the authors' code for images. The network is kept, not its copy.

    Parameters
    ----------
    encoder : plain vision transformer of images.
    ratio : share of the patches that is masked, in (0, 1). Paper: 0.6.
    masking : "blocks" as BEiT draws them (paper), "random" patches, or "units" of 2 x 2 patches.
    top : blocks whose outputs are averaged; 0 for the upper half. Paper: 6 of 12.
    beta : where the loss turns from squared to absolute, > 0. Paper: 2.
    momentum : of the slow copy, constant, in [0, 1]. Paper: 0.9998, for hundreds of thousands of updates.
    view : light augmentation by name; "auto" is the paper's crop (at least a fifth of the area, 0.4 of images up to 64
        pixels) and mirror image. Digits and glyphs want "none", or no mirror.
    view_changes : fields of `autodidact.views.Augment` to change, for example ``{flip: 0}``.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        ratio: float = 0.6,
        masking: Masking = "blocks",
        top: int = 0,
        beta: float = 2.0,
        momentum: float = 0.999,
        view: str = "auto",
        view_changes: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(encoder, "data2vec", ratio=ratio, masking=masking, view=view, view_changes=view_changes)
        top = top or max(1, encoder.depth // 2)
        if not 1 <= top <= encoder.depth or not beta > 0:
            raise ValueError(
                f"top is a number of the {encoder.depth} blocks and beta is positive, got {top} and {beta}"
            )
        self.taps, self.beta = tuple(range(encoder.depth - top, encoder.depth)), beta
        self.teacher = EMATeacher(encoder, momentum)
        self.head = nn.Linear(encoder.token_width, encoder.token_width)

    def targets(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n t d"]:
        """What the slow copy makes of every patch of the whole images."""
        taps = self.teacher(images, taps=self.taps).taps
        return torch.stack([unit_tokens(taps[tap]) for tap in self.taps]).mean(dim=0)

    def loss(self, views: Views, progress: Progress) -> Loss:
        tokens = self.seen(views)
        said = self.head(gather_tokens(tokens, views["masked"]))
        targets = self.targets(views["images"])
        total = latent_smooth_l1(said, gather_tokens(targets, views["masked"]), self.beta)
        spread = targets.var(dim=(0, 1), unbiased=False).mean()
        return Loss(total, {"spread": spread}, {"embedding": tokens.mean(dim=1)})

    def after_update(self, progress: Progress) -> None:
        self.teacher.update(self.encoder)
