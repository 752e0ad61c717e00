"""GMML: groups of connected pixels are corrupted, and a vision transformer paints them back."""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from autodidact.catalog import Card
from autodidact.data.batch import Batch
from autodidact.encoders.kept import EncoderModel
from autodidact.methods.masked_patches import light_augment
from autodidact.methods.method import Loss, Progress, Views
from autodidact.methods.repainting import Repainting
from autodidact.model import Encoder, Model
from autodidact.objectives import masked_reconstruction
from autodidact.views import BlockCorruption
from autodidact.views.corruption import Fill

CARD = Card(
    name="gmml",
    target="GMML",
    kind="method",
    number=50,
    title="GMML",
    paper="Atito, Awais, Kittler: GMML is All you Need, Group Masked Model Learning (2205.14986, 2022)",
    summary="Trains a vision transformer from scratch on few images: it repaints corrupted blocks of pixels.",
    needs=(("image", "image"),),
    arguments=("fill", "share", "alien_p", "align", "max_block"),
    claim="gmml",
    encoder="small:vit",
)


class GMML(Repainting):
    """Group masked model learning (arXiv 2205.14986, section 3).

    Blocks of a lightly augmented image are replaced by noise, or with probability `alien_p` by the same blocks of
    another image. The encoder sees all tokens; the patch tokens of some of its blocks, averaged and normalised, go
    through a light head that predicts all pixels. The loss is the L1 distance to the clean image over the corrupted
    pixels, in units of the images' standard deviation.

    Where the authors use blocks 6, 8, 10 and 12 of 12, a transformer of another depth takes those that are evenly
    spaced from its middle to its end: four where it has five blocks or more, else fewer. The authors show two crops of
    each image in a step, only to equalise the number of updates with other methods; here it is one. What is kept embeds
    by the mean of the last patch tokens, since nothing trains the class token.

    Parameters
    ----------
    encoder : vision transformer of images.
    fill : what blocks become: "noise" (paper), "zeros" (the mean colour), "self" (another place of the same image) or
        "alien" (the same place of another image).
    share : largest share of the area that is corrupted, in (0, 1]; the share is drawn from min(0.5, share) to here.
        Paper: 0.75.
    align : blocks begin and end at multiples of this many pixels; 1 leaves them free (authors' code), the side of a
        patch corrupts whole tokens.
    max_block : longest side of a block as a share of the image's side, in (0, 1]. Paper: 0.3. A block is never shorter
        than `align`, so the side of a patch for `align` and 0.01 here corrupt isolated patches as SimMIM does: the
        opposite of what the paper's name is about, for comparison.
    alien_p : probability that an image is instead taken clean and gets blocks of another image. Authors: 0.5 with one
        fill. It needs batches of at least two images.
    alien_share : `share` of those images. Authors: 0.3.
    region : pixels that the loss averages over: "masked" (paper) or "all".
    view : light augmentation by name. "auto" is the authors' "gmml", except that the crops of images up to 64 pixels
        keep at least 0.4 of the area instead of 0.05 (which of 28 x 28 pixels would be 6 x 6).
    view_changes : fields of `autodidact.views.Augment` to change.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        fill: Fill = "noise",
        share: float = 0.75,
        align: int = 1,
        max_block: float = 0.3,
        alien_p: float = 0.5,
        alien_share: float = 0.3,
        region: Literal["masked", "all"] = "masked",
        view: str = "auto",
        view_changes: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(encoder, "gmml", BlockCorruption(fill, share, align, max_block, alien_p, alien_share))
        if region not in ("masked", "all"):
            raise ValueError(f"region must be masked or all, got '{region}'")
        self.region: Literal["masked", "all"] = region
        self.augment = light_augment(self.encoder, view, view_changes, paper="gmml")
        self.taps = averaged_blocks(encoder.depth)
        self.norm = nn.LayerNorm(encoder.token_width, eps=1e-6)

    def views(self, batch: Batch, progress: Progress) -> Views:
        box = batch.fields.get("box")
        assert box is None or isinstance(box, Tensor)
        images = self.augment(batch["image"], progress.generator, box)
        return Views(self.corrupted(images, progress.generator), batch.ids)

    def loss(self, views: Views, progress: Progress) -> Loss:
        tokens = self.features(views["seen"])
        total = masked_reconstruction(self.head(tokens), views["clean"], views["mask"], region=self.region)
        return Loss(total, {"corrupted": views["mask"].float().mean()}, {"embedding": tokens.mean(dim=1)})

    def pictures(self, views: Views) -> dict[str, Float[Tensor, "n c h w"]]:
        return self.painted(views, self.features(views["seen"]))

    def features(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n t d"]:
        """Patch tokens of the chosen blocks, averaged, then normalised: what the head reads."""
        taps = self.encoder(images, taps=self.taps).taps
        return self.norm(torch.stack([taps[index] for index in self.taps]).mean(dim=0))

    def kept(self) -> Model:
        return EncoderModel({"encoder": self._slot("encoder")}, tap="mean")


def averaged_blocks(depth: int) -> tuple[int, ...]:
    """Blocks, 0-based, evenly spaced from the middle of `depth` to its end: 5, 7, 9, 11 of 12. Four, where there are at
    least five blocks."""
    return tuple(sorted({round(depth / 2 + depth / 2 * step / 3) - 1 for step in range(4)} - {-1}))
