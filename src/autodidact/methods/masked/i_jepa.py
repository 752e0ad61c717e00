"""I-JEPA: from one large block of an image, predict the latents that a slow copy has at four others."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from autodidact.catalog import Card
from autodidact.encoders.kept import EncoderModel
from autodidact.heads import TokenDecoder, decoder_width, sinusoidal_grid
from autodidact.methods.masked_patches import MaskedPatches
from autodidact.methods.method import Loss, Progress, Views
from autodidact.methods.ranges import low_high
from autodidact.model import Encoder, Model
from autodidact.objectives import latent_smooth_l1
from autodidact.schedules import linear_ramp
from autodidact.targets import EMATeacher, unit_tokens
from autodidact.views import gather_tokens, jepa_blocks

CARD = Card(
    name="i_jepa",
    target="IJEPA",
    kind="method",
    title="I-JEPA",
    paper="Assran, Duval, Misra, Bojanowski, Vincent, Rabbat, LeCun, Ballas: Self-Supervised Learning from Images with "
    "a Joint-Embedding Predictive Architecture (2301.08243, 2023)",
    summary="From the patches of one block, predicts the latents that a slow copy has at other blocks; no pixels.",
    needs=(("image", "image"),),
    arguments=("targets", "target_area", "context_area", "momentum", "depth"),
    encoder="small:vit",
)


class IJEPA(MaskedPatches):
    """I-JEPA (arXiv 2301.08243, section 3).

    The target encoder, an exponential moving average, sees the whole image; its tokens at `targets` blocks, each
    normalised to mean 0 and variance 1, are the targets. The context encoder sees one large block without them, all
    other patches dropped. The predictor, a light transformer that gets a mask token with its position for every patch
    of a target block, predicts them block by block. The loss is smooth L1, as in the authors' code; the paper's text
    has the squared distance.

    Class and register tokens of the encoder, which the authors' has not, are left out of prediction. The target encoder
    is kept, as in the paper, and embeds by the mean of its patch tokens.

    Parameters
    ----------
    encoder : plain vision transformer of images.
    targets : target blocks of an image. Paper: 4.
    target_area : smallest and largest area of a target block as a share of the image. Paper: 0.15, 0.2.
    target_aspect : smallest and largest height over width of a target block. Paper: 0.75, 1.5.
    context_area : smallest and largest area of the context block, before target blocks are taken out. Paper: 0.85, 1.
    least : patches that a context has at least. Authors' code: 10, of 196; 0 for that share of the patches.
    momentum : of the target encoder at the first update; it rises linearly to 1. Paper: 0.996.
    hidden : width of the predictor's tokens; 0 for half the encoder's. Paper: 384, for encoders of 768 to 1408.
    depth : layers of the predictor. Paper: 6 for ViT-B, 12 for larger ones.
    heads : attention heads of the predictor.
    view : light augmentation by name; "auto" is a crop (paper: at least 0.3 of the area; here 0.2, and 0.4 of images up
        to 64 pixels) and mirror image, which the authors leave out.
    view_changes : fields of `autodidact.views.Augment` to change, for example ``{flip: 0}``.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        targets: int = 4,
        target_area: tuple[float, float] = (0.15, 0.2),
        target_aspect: tuple[float, float] = (0.75, 1.5),
        context_area: tuple[float, float] = (0.85, 1.0),
        least: int = 0,
        momentum: float = 0.996,
        hidden: int = 0,
        depth: int = 4,
        heads: int = 4,
        view: str = "auto",
        view_changes: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(encoder, "i_jepa", view=view, view_changes=view_changes)
        self.blocks: dict[str, Any] = {
            "targets": targets,
            "target_area": low_high("target_area", target_area),
            "target_aspect": low_high("target_aspect", target_aspect),
            "context_area": low_high("context_area", context_area),
            "least": least or max(1, round(self.tokens * 10 / 196)),
        }
        # Blocks that this grid has no room for are refused now, not at the first step.
        self.hide(1, torch.Generator())
        self.momentum = momentum
        self.teacher = EMATeacher(encoder, momentum)
        self.predictor = TokenDecoder(
            encoder.token_width,
            sinusoidal_grid(self.encoder.patches, hidden or decoder_width(encoder.token_width, heads)),
            depth=depth,
            heads=heads,
        )

    def hide(self, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        return jepa_blocks(n, self.encoder.patches, generator, **self.blocks)._asdict()

    def loss(self, views: Views, progress: Progress) -> Loss:
        context, targets = views["context"], views["targets"]
        whole = self.teacher(views["images"]).tokens
        latents = unit_tokens(whole)
        wanted = torch.stack([gather_tokens(latents, index) for index in targets.unbind(dim=1)], dim=1)
        seen = self.encoder(views["images"], keep=context).tokens
        total = latent_smooth_l1(self.predictor(seen, context, targets), wanted)
        spread = latents.var(dim=(0, 1), unbiased=False).mean()
        return Loss(total, {"spread": spread}, {"embedding": whole.mean(dim=1)})

    def after_update(self, progress: Progress) -> None:
        self.teacher.update(self.encoder, linear_ramp(progress.step, progress.total, self.momentum, 1.0))

    def kept(self) -> Model:
        return EncoderModel({"encoder": self.teacher.copied()}, tap="mean")
