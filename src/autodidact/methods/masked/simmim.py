"""SimMIM: a mask token stands for the hidden patches, and one linear layer says their pixels."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from autodidact.catalog import Card
from autodidact.methods.masked_patches import Masking, MaskTokens
from autodidact.methods.method import Loss, Progress, Views
from autodidact.model import Encoder
from autodidact.objectives import masked_reconstruction
from autodidact.views import gather_tokens

CARD = Card(
    name="simmim",
    target="SimMIM",
    kind="method",
    title="SimMIM",
    paper="Xie, Zhang, Cao et al.: SimMIM, a Simple Framework for Masked Image Modeling (2111.09886, 2021)",
    summary="Masks patches inside the transformer and predicts their raw pixels by a single linear layer.",
    needs=(("image", "image"),),
    arguments=("ratio", "masking"),
    encoder="small:vit",
)


class SimMIM(MaskTokens):
    """SimMIM (arXiv 2111.09886, section 3).

    Large units of patches are replaced by a mask token, and the encoder sees all tokens. A linear layer says the pixels
    of each masked patch; the loss is their mean absolute error in units of the images' standard deviation.

    Loss and gradients were compared with transformers 5.23 (`ViTForMaskedImageModeling`) on the same weights, images
    and masks, see tests/methods/test_simmim.py; they agree to 1e-5.

    Parameters
    ----------
    encoder : plain vision transformer of images.
    ratio : share of the patches that is masked, in (0, 1). Paper: 0.6 with units of 32 pixels.
    masking : "units" of 2 x 2 patches (paper: of 32 pixels, with patches of 16), "random" patches, or "blocks" as BEiT
        draws them.
    view : light augmentation by name; "auto" is the paper's crop (at least a fifth of the area, 0.4 of images up to 64
        pixels) and mirror image. Digits and glyphs want "none", or no mirror.
    view_changes : fields of `autodidact.views.Augment` to change, for example ``{flip: 0}``.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        ratio: float = 0.6,
        masking: Masking = "units",
        view: str = "auto",
        view_changes: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(encoder, "simmim", ratio=ratio, masking=masking, view=view, view_changes=view_changes)
        self.head = nn.Linear(encoder.token_width, self.patch_values)

    def loss(self, views: Views, progress: Progress) -> Loss:
        tokens = self.seen(views)
        said = self.head(gather_tokens(tokens, views["masked"]))
        wanted = gather_tokens(self.pixels(views["images"]), views["masked"])
        return Loss(masked_reconstruction(said, wanted, norm="l1"), {}, {"embedding": tokens.mean(dim=1)})

    def pictures(self, views: Views) -> dict[str, Float[Tensor, "n c h w"]]:
        said = self.head(gather_tokens(self.seen(views), views["masked"]))
        return self.painted(views["images"], said, views["masked"])
