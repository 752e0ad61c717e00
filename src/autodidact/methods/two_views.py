"""What methods on two random views of an image share: the views, and a projection of each."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from autodidact.data.batch import Batch
from autodidact.methods.method import Loss, Method, Progress, Views
from autodidact.model import Encoder
from autodidact.views import Augment


def augment_for(encoder: Encoder, view: str, changes: Mapping[str, Any] | None = None) -> Augment:
    """The augmentation of a name for the images of an encoder.

    "auto" is "simclr" for colour images, and for other images "tiny" up to 16 pixels a side and "grey" above.
    """
    size, channels = encoder.spec["image_size"], encoder.spec["channels"]
    if view == "auto":
        view = "simclr" if channels == 3 else ("tiny" if _smaller_side(size) <= 16 else "grey")
    size = tuple(size) if isinstance(size, list) else size
    return Augment.preset(view, size, **{k: _plain(v) for k, v in (changes or {}).items()})


def augment_pair(encoder: Encoder, view: str, changes: Mapping[str, Any] | None = None) -> tuple[Augment, Augment]:
    """BYOL's two different augmentations for "auto" and colour images; else that of the name (`augment_for`), twice."""
    paper = view == "auto" and encoder.spec["channels"] == 3
    first, second = ("barlow_a", "barlow_b") if paper else (view, view)
    return augment_for(encoder, first, changes), augment_for(encoder, second, changes)


def _smaller_side(size: int | list[int]) -> int:
    return size if isinstance(size, int) else min(size)


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


class TwoViews(Method):
    """Two views of each image, encoded and projected; subclasses compare the projections.

    Attributes
    ----------
    projector : from the pooled embedding to the space of the objective.
    augments : how each of the two views is made.
    one_forward : whether both views pass the encoder as one batch (its batch norms then see both).
    """

    one_forward = True

    def __init__(self, encoder: Encoder, projector: nn.Module, augments: tuple[Augment, Augment]) -> None:
        super().__init__()
        self.encoder, self.projector, self.augments = encoder, projector, augments

    @abstractmethod
    def objective(
        self, z1: Float[Tensor, "n d"], z2: Float[Tensor, "n d"], views: Views, progress: Progress
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss on the projections, and its named terms."""

    def views(self, batch: Batch, progress: Progress) -> Views:
        box = batch.get("box")
        made = {
            name: augment(batch["image"], progress.generator, box)
            for name, augment in zip(("a", "b"), self.augments, strict=True)
        }
        return Views(made, batch.ids)

    def loss(self, views: Views, progress: Progress) -> Loss:
        if self.one_forward:
            h1, h2 = self._pooled(torch.cat([views["a"], views["b"]])).chunk(2)
            z1, z2 = self.projector(torch.cat([h1, h2])).chunk(2)
        else:
            h1, h2 = self._pooled(views["a"]), self._pooled(views["b"])
            z1, z2 = self.projector(h1), self.projector(h2)
        total, terms = self.objective(z1, z2, views, progress)
        return Loss(total, terms, {"embedding": h1, "projection": z1, "projection_b": z2})

    def _pooled(self, images: Tensor) -> Float[Tensor, "n d"]:
        pooled = self.encoder(images).pooled
        if pooled is None:
            raise ValueError("this encoder gives no pooled embedding")
        return pooled
