"""MAE: a vision transformer sees a quarter of an image's patches, and a light decoder paints the others."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from autodidact.catalog import Card
from autodidact.heads import TokenDecoder, decoder_width, sinusoidal_grid
from autodidact.methods.masked_patches import MaskedPatches, masked_count, random_hidden
from autodidact.methods.method import Loss, Progress, Views
from autodidact.model import Encoded, Encoder
from autodidact.objectives import masked_reconstruction
from autodidact.targets import normalised_patches, patch_statistics
from autodidact.views import gather_tokens

CARD = Card(
    name="mae",
    target="MAE",
    kind="method",
    title="MAE",
    paper="He, Chen, Xie, Li, Dollár, Girshick: Masked Autoencoders Are Scalable Vision Learners (2111.06377, 2021)",
    summary="A vision transformer sees a quarter of the patches, at their cost alone; a light decoder paints the rest.",
    needs=(("image", "image"),),
    arguments=("ratio", "normalised", "hidden", "depth"),
    encoder="small:vit",
)


class MAE(MaskedPatches):
    """Masked autoencoder (arXiv 2111.06377, section 3).

    Random patches are dropped, and the encoder works on the others alone. The decoder, a light transformer, gets the
    encoder's outputs, the class token among them, and a mask token with a fixed 2-D position for every dropped patch,
    whose pixels it says. The loss is the mean squared error over the dropped patches.

    The decoder is thrown away; the encoder is kept as it is, and may then be shown all patches. Features of MAE want
    fine-tuning: in the paper, frozen, they are weaker than those of contrastive methods.

    Loss and gradients were compared with transformers 5.23 (`ViTMAEForPreTraining`) on the same weights, images and
    masks, see tests/methods/test_mae.py; they agree to 1e-5.

    Parameters
    ----------
    encoder : plain vision transformer of images.
    ratio : share of the patches that is dropped, in (0, 1). Paper: 0.75.
    normalised : predict each patch's pixels minus their mean, divided by their standard deviation. Paper: yes, which
        gives the better features.
    hidden : width of the decoder's tokens; 0 for half the encoder's. Paper: 512, for encoders of 768 to 1280.
    depth : layers of the decoder. Paper: 8; features after fine-tuning hardly suffer from 1 or 2.
    heads : attention heads of the decoder. Paper: 16.
    view : light augmentation by name; "auto" is the paper's crop (at least a fifth of the area, 0.4 of images up to 64
        pixels) and mirror image. Digits and glyphs want "none", or no mirror.
    view_changes : fields of `autodidact.views.Augment` to change, for example ``{flip: 0}``.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        ratio: float = 0.75,
        normalised: bool = True,
        hidden: int = 0,
        depth: int = 4,
        heads: int = 4,
        view: str = "auto",
        view_changes: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(encoder, "mae", view=view, view_changes=view_changes)
        if normalised and self.patch_values < 2:
            raise ValueError("a patch of a single value has no spread; use larger patches, or normalised=False")
        self.count, self.normalised = masked_count(ratio, self.tokens), normalised
        self.decoder = TokenDecoder(
            encoder.token_width,
            sinusoidal_grid(self.encoder.patches, hidden or decoder_width(encoder.token_width, heads)),
            outputs=self.patch_values,
            depth=depth,
            heads=heads,
        )

    def hide(self, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        return random_hidden(n, self.tokens, self.count, generator)

    def loss(self, views: Views, progress: Progress) -> Loss:
        encoded, said = self.said(views)
        wanted = gather_tokens(self.pixels(views["images"]), views["masked"])
        if self.normalised:
            wanted = normalised_patches(wanted)
        total = masked_reconstruction(said, wanted, norm="l2")
        assert encoded.tokens is not None
        return Loss(total, {}, {"embedding": encoded.tokens.mean(dim=1)})

    def said(self, views: Views) -> tuple[Encoded, Float[Tensor, "n m p"]]:
        """What the encoder makes of the patches it sees, and what the decoder says of the others."""
        encoded = self.encoder(views["images"], keep=views["keep"])
        said = self.decoder(encoded.tokens, views["keep"], views["masked"][:, None], prefix=encoded.prefix)
        return encoded, said[:, 0]

    def pictures(self, views: Views) -> dict[str, Float[Tensor, "n c h w"]]:
        """With normalised patches, mean and spread of each painted patch are those of the image: they are not said."""
        said = self.said(views)[1]
        if self.normalised:
            mean, spread = patch_statistics(gather_tokens(self.pixels(views["images"]), views["masked"]))
            said = said * spread + mean
        return self.painted(views["images"], said, views["masked"])
