"""Tasks whose labels come from what was done to the image: how it was turned, how its tiles lie."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from autodidact.data.batch import Batch
from autodidact.encoders.kept import read_out
from autodidact.heads import JigsawHead, pretext_head
from autodidact.methods.method import Loss, Method, Progress, Views
from autodidact.model import Encoder
from autodidact.objectives import label_cross_entropy
from autodidact.views import Augment, eval_view
from autodidact.views.jigsaw import cut_inside, distant_orders, ordered, tile_units, tiles
from autodidact.views.parcel import sent
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
        return label_cross_entropy(self.logits(read_out(encoder, images)), labels)


class RotationTask(Pretext):
    """By how many quarter turns was each of four augmented views of an image turned? (Gidaris et al., 1803.07728)

    The turn comes after the augmentation. The other way round, a mirrored image turned by 90 degrees could not be told
    from one turned by 270, and augmentations that look nowhere but in the image's box would need boxes that turn.

    Parameters
    ----------
    encoder : of square images.
    augment : of each view before it is turned.
    hidden : widths of the head's hidden layers. ScatSimCLR (2108.13939): 512 and 128.
    dropout : of the head.
    """

    def __init__(
        self, encoder: Encoder, augment: Augment, *, hidden: Sequence[int] = (512, 128), dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.augment, self.turns = augment, transformation_set("rotation")
        self.turns.check((encoder.spec["channels"], *encoder.spec["image_size"]))
        self.head = pretext_head(encoder.width, len(self.turns), hidden=hidden, dropout=dropout)
        self.field = encoder.spec.get("field", "image")

    def views(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        images, box, count = batch[self.field], batch.get("box"), len(self.turns)
        labels = torch.arange(count, device=images.device).repeat(len(images))
        four = images.repeat_interleave(count, 0), None if box is None else box.repeat_interleave(count, 0)
        return self.turns.apply(self.augment(four[0], generator, four[1]), labels), labels

    def logits(self, embedding: Tensor) -> Tensor:
        return self.head(embedding)


class JigsawTask(Pretext):
    """In which of a few orders do the 3 x 3 tiles of an image lie? (Noroozi and Favaro, 1603.09246)

    Each tile is shown at the full size of the encoder's images, alone.

    Parameters
    ----------
    encoder : of images.
    augment : of the whole image before it is cut; None takes it as it is.
    orders : number of orders, as far from each other as can be.
    gap : share of a tile's side that is left out at random places between it and the next, in [0, 1).
    normalise : whether each tile is shown in units of its own mean and spread, which then say nothing of its place.
    each, together : widths of the head's hidden layers, see `JigsawHead`.
    dropout : of the head.
    """

    orders: Tensor

    def __init__(
        self,
        encoder: Encoder,
        augment: Augment | None = None,
        *,
        orders: int = ORDERS,
        gap: float = 0.0,
        normalise: bool = False,
        each: int = 512,
        together: int = 4096,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if not 0 <= gap < 1:
            raise ValueError(f"gap is a share of a tile's side in [0, 1), got {gap}")
        height, width = encoder.spec["image_size"]
        self.tile: tuple[int, int] = (height, width)
        self.size = (GRID * math.ceil(height / (1 - gap)), GRID * math.ceil(width / (1 - gap)))
        self.augment = None if augment is None else replace(augment, size=self.size)
        self.normalise = normalise
        self.head = JigsawHead(encoder.width, GRID**2, orders, each=each, together=together, dropout=dropout)
        self.field = encoder.spec.get("field", "image")
        self.register_buffer("orders", distant_orders(orders, GRID**2), persistent=False)
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(encoder.spec[name]).view(-1, 1, 1), persistent=False)

    def views(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        images, box = batch[self.field], batch.get("box")
        count = len(self.orders)
        drawn = torch.randint(count, (len(images),), generator=generator, device=generator.device)
        labels = sent(drawn, images.device)
        if self.augment is None:
            whole = eval_view(images, self.size, box=box)
        else:
            whole = self.augment(images, generator, box)
        parts = tiles(whole, GRID)
        if parts.shape[3:] != self.tile:
            parts = cut_inside(parts, self.tile, generator)
        if self.normalise:
            # The encoder normalises its input itself, so it gets the units of an image.
            parts = tile_units(parts) * self.get_buffer("std") + self.get_buffer("mean")
        return ordered(parts, self.orders[labels]).flatten(0, 1), labels

    def logits(self, embedding: Tensor) -> Tensor:
        return self.head(embedding.unflatten(0, (-1, GRID**2)))


def pretext_task(name: PretextName, encoder: Encoder, augment: Augment, dropout: float = 0.5) -> Pretext:
    """The task of a name."""
    if name == "rotation":
        return RotationTask(encoder, augment, dropout=dropout)
    return JigsawTask(encoder, dropout=dropout)


class PretextMethod(Method):
    """A pretext task as a method of its own.

    Parameters
    ----------
    encoder : image encoder; its pooled output is what the task's head reads.
    task : makes images and labels, and has the head.
    """

    def __init__(self, encoder: Encoder, task: Pretext) -> None:
        super().__init__()
        self.encoder, self.task = encoder, task

    def views(self, batch: Batch, progress: Progress) -> Views:
        images, labels = self.task.views(batch, progress.generator)
        return Views({"shown": images, "done": labels}, batch.ids)

    def loss(self, views: Views, progress: Progress) -> Loss:
        assert views.ids is not None
        embedding = read_out(self.encoder, views["shown"])
        logits, labels = self.task.logits(embedding), views["done"]
        right = (logits.argmax(1) == labels).float().mean()
        of_images = embedding.unflatten(0, (len(views.ids), -1)).mean(1)
        return Loss(label_cross_entropy(logits, labels), {"right": right}, {"embedding": of_images})
