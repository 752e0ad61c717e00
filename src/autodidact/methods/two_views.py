"""What methods on random views of an image share: the views, and a projection of each."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations, groupby
from string import ascii_lowercase
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from autodidact.data.batch import Batch
from autodidact.methods.method import Loss, Method, Progress, Views
from autodidact.model import Encoder
from autodidact.objectives import same_slot
from autodidact.views import Augment

MOST_VIEWS = len(ascii_lowercase)
"""Views of an image are named by letters."""
LARGE_VIEWS = 2
"""Views of the size of the encoder's images, where there are small ones beside them."""
SMALL_IMAGE = 64
"""Side in pixels up to which images are too small for the crops of papers on ImageNet."""

Scale = Sequence[float] | None


def augment_for(encoder: Encoder, view: str, changes: Mapping[str, Any] | None = None) -> Augment:
    """The augmentation of a name for the images of an encoder.

    "auto" is "simclr" for colour images, and for other images "tiny" up to 16 pixels a side and "grey" above.
    """
    size, channels = encoder.spec["image_size"], encoder.spec["channels"]
    if view == "auto":
        view = "simclr" if channels == 3 else ("tiny" if _smaller_side(size) <= 16 else "grey")
    size = tuple(size) if isinstance(size, list) else size
    return Augment.preset(view, size, **{k: _plain(v) for k, v in (changes or {}).items()})


def gentle_augment_for(encoder: Encoder, view: str, changes: Mapping[str, Any] | None = None) -> Augment:
    """As `augment_for`, but "auto" is "weak" (crop and flip) for colour images."""
    return augment_for(encoder, "weak" if view == "auto" and encoder.spec["channels"] == 3 else view, changes)


def augment_pair(encoder: Encoder, view: str, changes: Mapping[str, Any] | None = None) -> tuple[Augment, Augment]:
    """BYOL's two different augmentations for "auto" and colour images; else that of the name (`augment_for`), twice."""
    paper = view == "auto" and encoder.spec["channels"] == 3
    first, second = ("barlow_a", "barlow_b") if paper else (view, view)
    return augment_for(encoder, first, changes), augment_for(encoder, second, changes)


def _smaller_side(size: int | list[int]) -> int:
    return size if isinstance(size, int) else min(size)


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def large_and_small(
    encoder: Encoder,
    large: tuple[Augment, Augment],
    small: Augment,
    *,
    count: int,
    size: int,
    scales: tuple[Scale, Scale],
    usual: tuple[tuple[float, float], tuple[float, float]],
) -> tuple[Augment, ...]:
    """Two large views, then small ones, of the sizes and scales of multi-crop (SwAV, 2006.09882, section 3.3).

    Parameters
    ----------
    encoder : must take images of both sizes.
    large, small : the augmentations, but for crop scale and size.
    count : of small views.
    size : side of small views in pixels; 0 for 96/224 of the image's, or half of it where images have up to 64 pixels,
        and a whole number of patches.
    scales : share of the image's area in large and in small views, (low, high) each. None is the usual one; where
        images have up to 64 pixels it is that of the augmentation for large views and (0.2, 0.5) for small ones. An
        augmentation that shows whole images keeps doing so in large views.
    usual : the paper's scales.

    Raises
    ------
    ValueError
        Negative numbers, more views than there are names, a size that the encoder does not take.
    """
    for name, value in (("local_count", count), ("local_size", size)):
        if value < 0:
            raise ValueError(f"{name} must not be negative, got {value}")
    if LARGE_VIEWS + count > MOST_VIEWS:
        raise ValueError(f"local_count is at most {MOST_VIEWS - LARGE_VIEWS}, got {count}")
    side = min(large[0].shape)
    tiny = side <= SMALL_IMAGE
    wanted = tuple(given if given is None else (float(given[0]), float(given[-1])) for given in scales)
    crops = [
        replace(one, crop_scale=wanted[0] or (usual[0] if not tiny and one.crop_scale else one.crop_scale))
        for one in large
    ]
    if not count:
        return tuple(crops)
    local = size or whole_patches(encoder, side / 2 if tiny else side * 96 / 224)
    _check_takes(encoder, local)
    return (*crops, *[replace(small, crop_scale=wanted[1] or ((0.2, 0.5) if tiny else usual[1]), size=local)] * count)


def whole_patches(encoder: Encoder, side: float) -> int:
    """The nearest side that is a whole number of patches, where the encoder reads patches."""
    if not encoder.token_width or encoder.grid is None:
        return round(side)
    patch = min(encoder.spec["image_size"]) // min(encoder.grid)
    return max(1, round(side / patch)) * patch


def _check_takes(encoder: Encoder, side: int) -> None:
    training = encoder.training
    try:
        with torch.no_grad():
            encoder.eval()(torch.zeros(1, encoder.spec["channels"], side, side))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"{encoder.name} takes no small views of {side} pixels ({str(error).splitlines()[0]}); set local_count=0, "
            "another local_size, or for a vision transformer of timm dynamic_img_size=true"
        ) from error
    finally:
        encoder.train(training)


def view_names(count: int) -> str:
    """Names of `count` views, a letter each: "a", "b", ..."""
    if not 1 <= count <= MOST_VIEWS:
        raise ValueError(f"an image is shown in 1 to {MOST_VIEWS} views, got {count}")
    return ascii_lowercase[:count]


class SeveralViews(Method):
    """Random views of each image, every one drawn on its own, called "a", "b", ...

    What is shown is all in `augments`, so another method may make the same views of other images; what a subclass makes
    beside them it makes in `completed`.

    Attributes
    ----------
    augments : how each of the views is made, in the order of their names.
    """

    encoder: Encoder
    augments: tuple[Augment, ...]

    @property
    def takes_more_views(self) -> bool:
        """Whether `loss` also compares more views than there are `augments`."""
        return False

    def views(self, batch: Batch, progress: Progress) -> Views:
        box = batch.get("box")
        made = {
            name: augment(batch["image"], progress.generator, box)
            for name, augment in zip(view_names(len(self.augments)), self.augments, strict=True)
        }
        return self.completed(Views(made, batch.ids), batch, progress)

    def completed(self, views: Views, batch: Batch, progress: Progress) -> Views:
        """The views and, under longer names, whatever else the loss reads: drawn anew, or made of views or batch."""
        return views

    def _pooled_by_size(self, shown: Sequence[Tensor]) -> Float[Tensor, "rows d"]:
        """Embeddings of views one after another; those of one size, side by side, pass the encoder as one batch."""
        alike = [list(group) for _, group in groupby(shown, key=lambda view: view.shape)]
        return torch.cat([self._pooled(torch.cat(group)) for group in alike])

    def _pooled(self, images: Tensor) -> Float[Tensor, "n d"]:
        pooled = self.encoder(images).pooled
        if pooled is None:
            raise ValueError("this encoder gives no pooled embedding")
        return pooled


class TwoViews(SeveralViews):
    """Two views of each image, encoded and projected; subclasses compare the projections.

    Shown more than two views, the loss is the mean of that of all pairs of views.

    Attributes
    ----------
    projector : from the pooled embedding to the space of the objective.
    augments : how each of the two views is made.
    one_forward : whether all views pass the encoder as one batch (its batch norms then see all of them).
    """

    one_forward = True

    def __init__(self, encoder: Encoder, projector: nn.Module, augments: tuple[Augment, Augment]) -> None:
        super().__init__()
        self.encoder, self.projector, self.augments = encoder, projector, augments

    @property
    def takes_more_views(self) -> bool:
        """True unless a subclass has a loss of its own, which then knows its two views."""
        return type(self).loss is TwoViews.loss

    @abstractmethod
    def objective(
        self, z1: Float[Tensor, "n d"], z2: Float[Tensor, "n d"], views: Views, progress: Progress
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss on the projections of a pair of views, and its named terms."""

    def loss(self, views: Views, progress: Progress) -> Loss:
        names = shown_views(views)
        shown = [views[name] for name in names]
        if self.one_forward:
            h = self._pooled(torch.cat(shown)).chunk(len(shown))
            z = self.projector(torch.cat(h)).chunk(len(shown))
        else:
            h = tuple(self._pooled(images) for images in shown)
            z = tuple(self.projector(embedding) for embedding in h)
        found = [
            self.objective(z[u], z[v], _pair(views, names[u], names[v]), progress)
            for u, v in combinations(range(len(shown)), 2)
        ]
        total = torch.stack([loss for loss, _ in found]).mean()
        terms = {name: torch.stack([terms[name] for _, terms in found]).mean() for name in found[0][1]}
        return Loss(total, terms, {"embedding": h[0], "projection": z[0], "projection_b": z[1]})


def shown_views(views: Views) -> list[str]:
    """Names of the views, a letter each; whatever else a method has made of the batch has a longer name."""
    return [name for name in views.named if len(name) == 1]


def _pair(views: Views, first: str, second: str) -> Views:
    """Two of the views, with what may repel what there."""
    others = set(shown_views(views)) - {first, second}
    pair = {name: value for name, value in views.named.items() if name not in others}
    if views.slot is None:
        return replace(views, named=pair)
    return Views(pair, views.ids, same_slot(views.slot[first], views.slot[second]))
