"""What methods share that hide patches of an image from a vision transformer, and ask for them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from autodidact.catalog import unknown
from autodidact.data.batch import Batch
from autodidact.encoders.image import ImageEncoder
from autodidact.encoders.kept import EncoderModel
from autodidact.methods.method import Method, Progress, Views
from autodidact.model import Encoder, Masked, Model
from autodidact.targets import image_of_patches, patch_pixels
from autodidact.views import (
    Augment,
    block_mask,
    group_mask,
    keep_indices,
    masked_indices,
    pixel_mask,
    random_mask,
    scatter_tokens,
)
from autodidact.views.parcel import sent

SMALL = 64
"""Side in pixels up to which a crop of a fifth of the area leaves too little to see."""

Masking = Literal["random", "blocks", "units"]
BEIT_BLOCK, BEIT_ASPECT = (16 / 196, 0.4), (0.3, 1 / 0.3)
"""Area of a block of BEiT's (2106.08254, algorithm 1) as a share of the image, and its rows over columns."""
UNIT = 2
"""Patches along each side of a unit: SimMIM's (2111.09886) 32 pixels with patches of 16."""


class MaskedPatches(Method):
    """Some patch tokens of a lightly augmented image are hidden, the same number in every image.

    What is kept embeds by the mean of the last patch tokens, since nothing but the other tokens trains a class token.

    Parameters
    ----------
    encoder : plain vision transformer.
    name : of the method, for messages.
    view, view_changes : see `light_augment`.
    """

    encoder: ImageEncoder

    def __init__(self, encoder: Encoder, name: str, *, view: str, view_changes: Mapping[str, Any] | None) -> None:
        super().__init__()
        self.encoder = image_transformer(encoder, name, any_tokens=True)
        self.augment = light_augment(self.encoder, view, view_changes)

    @abstractmethod
    def hide(self, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        """By name, which tokens of each of `n` images are hidden or seen."""

    def views(self, batch: Batch, progress: Progress) -> Views:
        images = self.augment(batch["image"], progress.generator, batch.get("box"))
        # Drawn and turned into indices at home, so that no device is waited for.
        hidden = self.hide(len(images), progress.generator)
        return Views({"images": images, **{name: sent(t, images.device) for name, t in hidden.items()}}, batch.ids)

    @property
    def tokens(self) -> int:
        """Patch tokens of an image."""
        rows, columns = self.encoder.patches
        return rows * columns

    @property
    def patch_values(self) -> int:
        """Values of the pixels of a patch."""
        return self.encoder.patch[0] * self.encoder.patch[1] * self.encoder.channels

    def pixels(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n t p"]:
        """Pixels of every patch in units of the images' standard deviation."""
        return patch_pixels(self.encoder.normalise(images), self.encoder.patch)

    def painted(
        self, images: Float[Tensor, "n c h w"], patches: Float[Tensor, "n m p"], masked: Int[Tensor, "n m"]
    ) -> dict[str, Float[Tensor, "n c h w"]]:
        """For a person: the image, the image with the masked patches grey, and with `patches` (as `pixels`) there."""
        whole = scatter_tokens(patches.float(), masked, self.pixels(images))
        painted = self.encoder.as_image(image_of_patches(whole, self.encoder.patches, self.encoder.patch))
        where = torch.zeros(len(images), self.tokens, dtype=torch.bool, device=images.device).scatter_(1, masked, True)
        inside = pixel_mask(where, self.encoder.patches, self.encoder.image_size)
        return {
            "augmented": images,
            "masked": torch.where(inside, 0.5, images),
            "repainted": torch.where(inside, painted.clamp(0, 1), images),
        }

    def kept(self) -> Model:
        return EncoderModel({"encoder": self._slot("encoder")}, tap="mean")


class MaskTokens(MaskedPatches):
    """A learned mask token stands in the place of the hidden patches, and the encoder sees all tokens.

    Parameters
    ----------
    encoder, name, view, view_changes : see `MaskedPatches`.
    ratio : share of the patches that is masked, in (0, 1).
    masking : "random" patches, "blocks" as BEiT draws them, or "units" of 2 x 2 patches as in SimMIM.
    """

    def __init__(
        self,
        encoder: Encoder,
        name: str,
        *,
        ratio: float,
        masking: Masking,
        view: str,
        view_changes: Mapping[str, Any] | None,
    ) -> None:
        super().__init__(encoder, name, view=view, view_changes=view_changes)
        if masking not in get_args(Masking):
            raise unknown("masking", str(masking), get_args(Masking))
        self.masking, self.count = masking, masked_count(ratio, self.tokens)
        self.mask_token = nn.Parameter(torch.empty(encoder.token_width))
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def hide(self, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        mask = self.masks(n, generator)
        return {"mask": mask, "masked": masked_indices(mask)}

    def masks(self, n: int, generator: torch.Generator) -> Bool[Tensor, "n t"]:
        """Which patches of `n` images are masked, exactly `count` of each."""
        grid = self.encoder.patches
        if self.masking == "random":
            return random_mask(n, self.tokens, self.count, generator)
        if self.masking == "units":
            return group_mask(n, grid, self.count, generator, group=UNIT)
        return block_mask(n, grid, self.count, generator, block=BEIT_BLOCK, aspect=BEIT_ASPECT)

    def seen(self, views: Views) -> Float[Tensor, "n t d"]:
        """The encoder's tokens for the images with mask tokens."""
        tokens = self.encoder(views["images"], masked=Masked(views["mask"], self.mask_token)).tokens
        assert tokens is not None
        return tokens


def random_hidden(n: int, tokens: int, count: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Indices of `count` random tokens, "masked", and of the others, "keep"."""
    mask = random_mask(n, tokens, count, generator)
    return {"keep": keep_indices(mask), "masked": masked_indices(mask)}


def masked_count(ratio: float, tokens: int) -> int:
    """How many of `tokens` a share of them is; at least one, and one stays."""
    if not 0 < ratio < 1:
        raise ValueError(f"ratio is the share of the patches that is masked, in (0, 1), got {ratio}")
    return min(max(1, round(ratio * tokens)), tokens - 1)


def image_transformer(encoder: Encoder, name: str, *, any_tokens: bool = False) -> ImageEncoder:
    """The encoder, when it has patch tokens, and with `any_tokens` takes `keep` and `masked`; else ValueError."""
    if not isinstance(encoder, ImageEncoder) or not encoder.token_width or encoder.grid is None:
        raise ValueError(f"{name} needs a vision transformer such as small:vit; {encoder.name} has no patch tokens")
    if any_tokens and not encoder.any_tokens:
        raise ValueError(
            f"{name} needs a plain vision transformer such as small:vit or timm:vit_small_patch16_224; "
            f"{encoder.name} cannot drop or mask tokens"
        )
    return encoder


def light_augment(
    encoder: ImageEncoder, view: str, changes: Mapping[str, Any] | None, *, paper: str = "weak"
) -> Augment:
    """The augmentation before patches are hidden, in the size of the encoder's input.

    "auto" is the paper's, except that the crops of images up to 64 pixels keep at least 0.4 of the area.
    """
    gentle = {"crop_scale": (0.4, 1.0)} if view == "auto" and min(encoder.image_size) <= SMALL else {}
    own = {name: tuple(value) if isinstance(value, list) else value for name, value in (changes or {}).items()}
    return Augment.preset(paper if view == "auto" else view, encoder.image_size, **{**gentle, **own})
