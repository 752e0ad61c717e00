"""What methods share that hide patches of an image from a vision transformer, and ask for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autodidact.encoders.image import ImageEncoder
from autodidact.model import Encoder
from autodidact.views import Augment

SMALL = 64
"""Side in pixels up to which a crop of a fifth of the area leaves too little to see."""


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
