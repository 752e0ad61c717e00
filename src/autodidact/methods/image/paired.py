"""Training on pairs that belong together, by triplets: what a recipe that finds pairs ends with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from autodidact.data.batch import Batch
from autodidact.data.pairs import OTHER
from autodidact.heads import projector
from autodidact.methods.method import Loss, Method, Progress, Views
from autodidact.methods.two_views import augment_for
from autodidact.model import Encoder
from autodidact.objectives import pair_triplets
from autodidact.objectives.shards import world_size
from autodidact.objectives.triplet import strangers


class PairTriplets(Method):
    """Both images of a pair are nearer to each other than to images that share no mark with either.

    Reads pairs (`autodidact.data.pairs.Pairs`), of one source or of several together. Images without a negative in
    their batch are left out and counted; a batch in which no image has one teaches nothing: its loss is 0.

    Parameters
    ----------
    encoder : image encoder.
    marks : integer fields of an image; what differs in all of them from both images of a pair is a negative of it.
    margin : by which a negative must be farther than the positive, in cosine distance.
    hardest : negatives an image once they are mined.
    mine_from : share of the training, in [0, 1], during which all negatives count, before the hardest are mined.
    semi_hard : mine only among negatives that are farther than the positive.
    hidden : width of the projector's hidden layer; 0 for the encoder's width.
    dimensions : width of the projections that are compared.
    view, view_changes : augmentation of each image, see `autodidact.methods.two_views.augment_for`.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        marks: Sequence[str],
        margin: float = 0.5,
        hardest: int = 4,
        mine_from: float = 0.2,
        semi_hard: bool = False,
        hidden: int = 0,
        dimensions: int = 128,
        view: str = "auto",
        view_changes: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_mining(margin, hardest, mine_from)
        self.encoder, self.augment = encoder, augment_for(encoder, view, view_changes)
        self.projector = projector(encoder.width, hidden or encoder.width, dimensions)
        self.marks, self.margin, self.hardest = tuple(marks), margin, hardest
        self.mine_from, self.semi_hard = mine_from, semi_hard
        self.counts, self._left = Counter[str](), torch.zeros(2, dtype=torch.long)

    def views(self, batch: Batch, progress: Progress) -> Views:
        parts = list(batch.streams.values()) or [batch]
        views: dict[str, Any] = {}
        for name, prefix in (("a", ""), ("b", OTHER)):
            made = [self.augment(p[prefix + "image"], progress.generator, p.get(prefix + "box")) for p in parts]
            views[name] = torch.cat(made)
            views[f"marks_{name}"] = torch.cat([self._marks(part, prefix) for part in parts])
        return Views(views, batch.ids)

    def _marks(self, part: Batch, prefix: str) -> Int[Tensor, "n c"]:
        return torch.stack([part[prefix + mark] for mark in self.marks], dim=1)

    def loss(self, views: Views, progress: Progress) -> Loss:
        embedding = self.encoder(torch.cat([views["a"], views["b"]])).pooled
        z1, z2 = self.projector(embedding).chunk(2)
        found = pair_triplets(
            z1,
            z2,
            views["marks_a"],
            views["marks_b"],
            margin=self.margin,
            hardest=self.hardest if progress.fraction >= self.mine_from else None,
            semi_hard=self.semi_hard and progress.fraction >= self.mine_from,
        )
        if self.training:
            self._count(2 * len(z1) * world_size(), found.left_out.detach())
        terms = {"active": found.active, "left_out": found.left_out}
        return Loss(found.total, terms, {"embedding": embedding.chunk(2)[0], "projection": z1, "projection_b": z2})

    def _count(self, images: int, left_out: Tensor) -> None:
        # What is left out stays on its device until it is asked for: no update waits for it.
        alone = (images * left_out.double()).round().long()
        self._left = self._left.to(alone.device) + torch.stack([alone, (alone == images).long()])
        self.counts.update(images=images, batches=1)

    def told(self) -> str:
        """What was left out, in a sentence."""
        alone, empty = self._left.tolist()
        return (
            f"{alone:,} of {self.counts['images']:,} images shown found no negative in their batch and were left out; "
            f"{empty:,} of {self.counts['batches']:,} batches held none for any image and taught nothing"
        )

    def memory(self) -> dict[str, Any]:
        return {"counts": dict(self.counts), "left": self._left.tolist()}

    def remember(self, memory: Mapping[str, Any]) -> None:
        self.counts = Counter(memory.get("counts", {}))
        self._left = torch.tensor(memory.get("left", [0, 0]))


def check_negatives(first: Int[Tensor, "n c"], second: Int[Tensor, "n c"], marks: Sequence[str]) -> None:
    """Raise ValueError where no pair can have a negative: no image differs from both of its images in every mark."""
    images, pairs = torch.cat([first, second]).unique(dim=0), torch.stack([first, second]).unique(dim=1)
    if not any(bool(strangers(one, other, images).any()) for one, other in pairs.split(256, dim=1)):
        raise ValueError(
            f"no pair can have a negative: of the images that are paired, none differs in {' and '.join(marks)} from "
            "both images of any pair; take more clusters, or data of more tracks"
        )


def check_mining(margin: float, hardest: int, mine_from: float) -> None:
    """Raise ValueError for settings of `PairTriplets` that are out of range; a recipe asks before its first stage."""
    if margin <= 0 or hardest < 1:
        raise ValueError(f"margin must be positive and hardest at least 1, got {margin} and {hardest}")
    if not 0 <= mine_from <= 1:
        raise ValueError(f"mine_from is a share of the training in [0, 1], got {mine_from}")
