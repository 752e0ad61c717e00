"""MaskFeat: of the masked patches, a vision transformer says the histograms of oriented gradients."""

from __future__ import annotations

from typing import Any

from torch import nn

from autodidact.catalog import Card
from autodidact.methods.masked_patches import Masking, MaskTokens
from autodidact.methods.method import Loss, Progress, Views
from autodidact.model import Encoder
from autodidact.objectives import masked_reconstruction
from autodidact.targets import hog_cells, patch_hog
from autodidact.views import gather_tokens

CARD = Card(
    name="maskfeat",
    target="MaskFeat",
    kind="method",
    title="MaskFeat",
    paper="Wei, Fan, Xie, Wu, Yuille, Feichtenhofer: Masked Feature Prediction for Self-Supervised Visual Pre-Training "
    "(2112.09133, 2021)",
    summary="Masks patches inside the transformer and predicts the directions of edges there instead of pixels.",
    needs=(("image", "image"),),
    arguments=("ratio", "masking", "bins", "cells"),
    encoder="small:vit",
)


class MaskFeat(MaskTokens):
    """MaskFeat with HOG features (arXiv 2112.09133, section 3).

    Masked patches are replaced by a mask token; a linear layer says the histograms of oriented gradients of each, of
    every channel by itself, each cell's divided by its length. The loss is the mean squared error over the masked
    patches. `autodidact.targets.hog` says how the histograms differ from those of the authors' code.

    Parameters
    ----------
    encoder : plain vision transformer of images.
    ratio : share of the patches that is masked, in (0, 1). Paper: 0.4.
    masking : "blocks" as BEiT draws them (paper), "random" patches, or "units" of 2 x 2 patches.
    bins : orientations of a histogram. Paper: 9.
    cells : histograms along each side of a patch; 0 for as few as give cells of at most 8 pixels. Paper: 2, of 8
        pixels each.
    view : light augmentation by name; "auto" is the paper's crop (at least a fifth of the area, 0.4 of images up to 64
        pixels) and mirror image. Digits and glyphs want "none", or no mirror.
    view_changes : fields of `autodidact.views.Augment` to change, for example ``{flip: 0}``.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        ratio: float = 0.4,
        masking: Masking = "blocks",
        bins: int = 9,
        cells: int = 0,
        view: str = "auto",
        view_changes: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(encoder, "maskfeat", ratio=ratio, masking=masking, view=view, view_changes=view_changes)
        patch = self.encoder.patch
        self.bins, self.cells = bins, cells or hog_cells(patch)
        if bins < 2 or self.cells < 1 or patch[0] % self.cells or patch[1] % self.cells:
            raise ValueError(
                f"bins must be at least 2 and cells a divisor of the sides of a patch of {patch[0]}x{patch[1]} pixels, "
                f"got {bins} and {cells}"
            )
        self.head = nn.Linear(encoder.token_width, self.cells**2 * bins * self.encoder.channels)

    def loss(self, views: Views, progress: Progress) -> Loss:
        tokens = self.seen(views)
        said = self.head(gather_tokens(tokens, views["masked"]))
        features = patch_hog(views["images"], self.encoder.patch, cells=self.cells, bins=self.bins)
        wanted = gather_tokens(features, views["masked"])
        return Loss(masked_reconstruction(said, wanted, norm="l2"), {}, {"embedding": tokens.mean(dim=1)})
