"""Tasks whose labels come from what was done to the image: how it was turned, how its tiles lie."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from autodidact.data.batch import Batch
from autodidact.heads import JigsawHead, pretext_head
from autodidact.model import Encoder
from autodidact.objectives import label_cross_entropy
from autodidact.views import Augment, eval_view
from autodidact.views.jigsaw import distant_orders, ordered, tiles
from autodidact.views.transformations import transformation_set

PretextName = Literal["rotation", "jigsaw"]
GRID, ORDERS = 3, 35


class Pretext(nn.Module, ABC):
    """A classification whose labels are made with the views."""

    @abstractmethod
    def views(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Int[Tensor, " rows"]]:
        """Images of the encoder's size, and what was done to them."""

    @abstractmethod
    def logits(self, embedding: Float[Tensor, "images d"]) -> Float[Tensor, "rows out"]:
        """What the head makes of the embeddings of these images."""

    def loss(self, encoder: Encoder, images: Tensor, labels: Int[Tensor, " rows"]) -> Float[Tensor, ""]:
        """Mean cross-entropy over the rows of all processes."""
        embedding = encoder(images).pooled
        if embedding is None:
            raise ValueError("this encoder gives no pooled embedding")
        return label_cross_entropy(self.logits(embedding), labels)


class RotationTask(Pretext):
    """By how many quarter turns was each of four augmented views of an image turned? (Gidaris et al., 1803.07728)

    The turn comes after the augmentation. The other way round, a mirrored image turned by 90 degrees could not be told
    from one turned by 270, and augmentations that look nowhere but in the image's box would need boxes that turn.

    Parameters
    ----------
    encoder : of square images.
    augment : of each view before it is turned.
    dropout : of the head.
    """

    def __init__(self, encoder: Encoder, augment: Augment, *, dropout: float = 0.5) -> None:
        super().__init__()
        self.augment, self.turns = augment, transformation_set("rotation")
        self.turns.check((encoder.spec["channels"], *encoder.spec["image_size"]))
        self.head = pretext_head(encoder.width, len(self.turns), dropout=dropout)
        self.field = encoder.spec.get("field", "image")

    def views(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        images, box, count = batch[self.field], batch.get("box"), len(self.turns)
        labels = torch.arange(count, device=images.device).repeat(len(images))
        four = images.repeat_interleave(count, 0), None if box is None else box.repeat_interleave(count, 0)
        return self.turns.apply(self.augment(four[0], generator, four[1]), labels), labels

    def logits(self, embedding: Tensor) -> Tensor:
        return self.head(embedding)


class JigsawTask(Pretext):
    """In which of 35 orders do the 3 x 3 tiles of an image lie? (Noroozi and Favaro, 1603.09246)

    Each tile is shown at the full size of the encoder's images, alone.

    Parameters
    ----------
    encoder : of images.
    dropout : of the head.
    """

    orders: Tensor

    def __init__(self, encoder: Encoder, *, dropout: float = 0.5) -> None:
        super().__init__()
        height, width = encoder.spec["image_size"]
        self.size = (GRID * height, GRID * width)
        self.head = JigsawHead(encoder.width, GRID**2, ORDERS, dropout=dropout)
        self.field = encoder.spec.get("field", "image")
        self.register_buffer("orders", distant_orders(ORDERS, GRID**2), persistent=False)

    def views(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        images = batch[self.field]
        labels = torch.randint(ORDERS, (len(images),), generator=generator, device=generator.device).to(images.device)
        whole = eval_view(images, self.size, box=batch.get("box"))
        return ordered(tiles(whole, GRID), self.orders[labels]).flatten(0, 1), labels

    def logits(self, embedding: Tensor) -> Tensor:
        return self.head(embedding.unflatten(0, (-1, GRID**2)))


def pretext_task(name: PretextName, encoder: Encoder, augment: Augment, dropout: float = 0.5) -> Pretext:
    """The task of a name."""
    if name == "rotation":
        return RotationTask(encoder, augment, dropout=dropout)
    return JigsawTask(encoder, dropout=dropout)
