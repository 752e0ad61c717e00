"""What methods share that corrupt blocks of an image and have a vision transformer paint them back."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from autodidact.encoders.image import ImageEncoder
from autodidact.heads import PixelHead
from autodidact.methods.masked_patches import image_transformer
from autodidact.methods.method import Method, Views
from autodidact.model import Encoder
from autodidact.views import BlockCorruption


class Repainting(Method):
    """Blocks of augmented images are corrupted; a light head paints all pixels from tokens.

    Parameters
    ----------
    encoder : vision transformer of images.
    name : of the method, for messages.
    corrupt : what is done to the images, normalised. Settings that their size does not allow are refused.

    Attributes
    ----------
    head : from patch tokens to normalised pixels.
    """

    encoder: ImageEncoder

    def __init__(self, encoder: Encoder, name: str, corrupt: BlockCorruption) -> None:
        super().__init__()
        self.encoder, self.corrupt = image_transformer(encoder, name), corrupt
        corrupt.check(self.encoder.image_size)
        self.head = PixelHead(encoder.token_width, self.encoder.channels, self.encoder.patches, self.encoder.patch)

    def corrupted(self, images: Float[Tensor, "n c h w"], generator: torch.Generator) -> dict[str, Tensor]:
        """By name: "clean", the images normalised; "seen", corrupted, in units of an image; "mask", where."""
        clean = self.encoder.normalise(images)
        corrupted, mask = self.corrupt(clean, generator)
        # The encoder normalises its input itself, so it gets the corrupted image in the units of an image.
        return {"clean": clean, "seen": self.encoder.as_image(corrupted), "mask": mask}

    def painted(self, views: Views, tokens: Float[Tensor, "n t d"]) -> dict[str, Float[Tensor, "n c h w"]]:
        """For a person: the images, as they are seen, and with the corrupted pixels painted from tokens."""
        painted = self.head(tokens).where(views["mask"], views["clean"])
        return {
            "augmented": self.encoder.as_image(views["clean"]),
            "corrupted": views["seen"],
            "repainted": self.encoder.as_image(painted),
        }
