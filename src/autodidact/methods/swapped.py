"""What SwAV and SEER share: the cluster of one view of an image is predicted from its other views, large and small."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from autodidact.heads import projector
from autodidact.methods.method import Group, Loss, Progress, Views
from autodidact.methods.two_views import LARGE_VIEWS, SeveralViews, augment_for, large_and_small
from autodidact.model import Encoder
from autodidact.objectives import power_law, sinkhorn, swapped_prediction
from autodidact.objectives.embeddings import full_precision, full_precision_region, unit_rows
from autodidact.objectives.shards import gathered, process, shard_sizes, world_size
from autodidact.targets import Queue

CODED = LARGE_VIEWS
"""Views that get a code."""


class Swapped(SeveralViews):
    """Swapped assignments between views (SwAV, arXiv 2006.09882, section 3).

    Codes are the assignments by Sinkhorn-Knopp of the large views to prototypes, each view on its own and over the
    batch of all processes; every other view predicts them. Prototypes are brought back to unit length after every
    update.

    Where views have slots (`bss`), the codes of each slot are balanced on their own, and the queue, whose embeddings
    come from slots that are gone, is not used.

    Parameters
    ----------
    encoder : image encoder; for small views it must take images of two sizes.
    prototypes : number of clusters. Paper: 3000 for 1000 classes; a few times the number of classes that one expects.
    temperature : of the predicted assignment. Paper: 0.1.
    epsilon : softness of the codes. Paper: 0.05, with batches of thousands; with small ones that lets all samples
        become alike, and the loss stays at the logarithm of the number of prototypes.
    iterations : of Sinkhorn-Knopp. Paper: 3.
    marginal : exponent a >= 0 of the shares that prototypes get of a batch: prototype k gets k^-a of all of them, for
        data with few frequent and many rare kinds. Paper: 0, all prototypes alike.
    frozen : updates during which the prototypes stay as they are. Authors' code: 313, an epoch at most.
    local_count : small views beside the two large ones. Paper: 6; 0 for "2x224".
    local_size : side of the small views in pixels; 0 for 96/224 of the image's, as in the paper, or half of it where
        images have up to 64 pixels.
    global_scale : share of the image's area in a large view. None: the paper's (0.14, 1), or that of the augmentation
        where images have up to 64 pixels.
    local_scale : share of the image's area in a small view. None: the paper's (0.05, 0.14), or (0.2, 0.5) where images
        have up to 64 pixels.
    queue : embeddings of earlier batches, a large view each, that codes are balanced with, so that batches may be
        smaller than the prototypes; 0 for none. Paper: 3840 with batches of 256.
    queue_from : epoch from which the queue is used. Paper: 15.
    hidden : width of the projector's hidden layers; 0 for the encoder's width. Paper: 2048.
    layers : of the projector. Paper: 2.
    norm : whether a BatchNorm follows each of its hidden layers. Paper: yes.
    dimensions : width of the projections. Paper: 128.
    view : augmentation by name: "auto", "simclr", "grey", "tiny", "weak", ...
    view_changes : fields of `autodidact.views.Augment` to change, for example ``{blur_p: 0}``.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        prototypes: int = 128,
        temperature: float = 0.1,
        epsilon: float = 0.02,
        iterations: int = 3,
        marginal: float = 0.0,
        frozen: int = 313,
        local_count: int = 4,
        local_size: int = 0,
        global_scale: tuple[float, float] | None = None,
        local_scale: tuple[float, float] | None = None,
        queue: int = 0,
        queue_from: int = 15,
        hidden: int = 0,
        layers: int = 2,
        norm: bool = True,
        dimensions: int = 128,
        view: str = "auto",
        view_changes: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("temperature", temperature), ("epsilon", epsilon)):
            if value <= 0:
                raise ValueError(f"{name} must be positive, got {value}")
        if prototypes < 2 or iterations < 1:
            raise ValueError(f"at least 2 prototypes and 1 iteration are needed, got {prototypes} and {iterations}")
        for name, count in (
            ("marginal", marginal),
            ("frozen", frozen),
            ("queue", queue),
            ("queue_from", queue_from),
        ):
            if count < 0:
                raise ValueError(f"{name} must not be negative, got {count}")
        self.encoder, self.temperature, self.epsilon, self.iterations = encoder, temperature, epsilon, iterations
        base = augment_for(encoder, view, view_changes)
        self.augments = large_and_small(
            encoder,
            (base, base),
            base,
            count=local_count,
            size=local_size,
            scales=(global_scale, local_scale),
            usual=((0.14, 1.0), (0.05, 0.14)),
        )
        self.projector = projector(
            encoder.width, hidden or encoder.width, dimensions, layers=layers, norm="batch" if norm else None
        )
        self.prototypes = nn.Linear(dimensions, prototypes, bias=False)
        self._unit_prototypes()
        shares = power_law(prototypes, marginal) if marginal else None
        self.shares: Tensor | None
        self.register_buffer("shares", shares, persistent=False)
        self.frozen, self.queued, self.queue_from = frozen, queue, queue_from
        self.queues = nn.ModuleList(Queue(queue, dimensions) for _ in range(CODED if queue else 0))
        self.made: list[tuple[Tensor, ...]] = []
        self.warned = False

    def loss(self, views: Views, progress: Progress) -> Loss:
        shown = list(views.named.values())
        if len(shown) < CODED:
            raise ValueError(
                f"{CODED} large views of each image are needed, each to predict the other, got {len(shown)}"
            )
        n = len(shown[0])
        if n * world_size() + self.queued < 2:
            raise ValueError(
                f"codes are shared among images: {type(self).__name__} needs batches of at least 2 images, or a queue"
            )
        self._warn_of_few(n, views)
        # Views of one size pass the encoder as one batch.
        h = self._pooled_by_size(shown)
        projected = self.projector(h)
        with full_precision_region(h.device):
            z = unit_rows(full_precision(projected))
            scores = (z @ full_precision(self.prototypes.weight).T).chunk(len(shown))
            codes = [self._codes(view, scores[view].detach(), views, progress) for view in range(CODED)]
        if self.training and self.queues and views.slot is None:
            self.made.append(z.detach()[: CODED * n].chunk(CODED))
        total = swapped_prediction(scores, codes, self.temperature)
        watch = {"embedding": h[:n], "projection": projected[:n], "projection_b": projected[n : 2 * n]}
        return Loss(total, {}, watch)

    @torch.no_grad()
    def _codes(self, view: int, scores: Float[Tensor, "n k"], views: Views, progress: Progress) -> Float[Tensor, "n k"]:
        """Codes of one view: with its queue, or in each of its slots apart."""
        if views.slot is not None:
            slots = views.slot[list(views.named)[view]]
            codes = torch.empty_like(scores)
            for slot in torch.cat(gathered(slots, shard_sizes(len(slots), slots.device))).unique():
                rows = slots == slot
                codes[rows] = self._balanced(scores[rows])
            return codes
        if self.queues and progress.epoch >= self.queue_from:
            queue = self.queues[view]
            assert isinstance(queue, Queue)
            # All processes hold one queue; each brings its share of it to the balance.
            earlier = queue.embeddings[process() :: world_size()] @ full_precision(self.prototypes.weight).T
            return self._balanced(torch.cat([scores, earlier]))[: len(scores)]
        return self._balanced(scores)

    def _warn_of_few(self, n: int, views: Views) -> None:
        """Once, where codes are made of fewer embeddings than there are prototypes, those of a full queue included."""
        batch = n * world_size()
        if self.warned or views.slot is not None or self.prototypes.out_features <= batch + self.queued:
            return
        self.warned = True
        held = f"a batch of {batch}" + (f" and a queue of {self.queued}" if self.queued else "")
        warnings.warn(
            f"{self.prototypes.out_features} prototypes share {held}: most get no image of their own. Give the method "
            f"a {'longer ' if self.queued else ''}queue, fewer prototypes or larger batches",
            stacklevel=2,
        )

    def _balanced(self, scores: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        return sinkhorn(scores, self.epsilon, self.iterations, marginal=self.shares)

    def after_update(self, progress: Progress) -> None:
        for made in self.made:
            for queue, z in zip(self.queues, made, strict=True):
                assert isinstance(queue, Queue)
                queue.push(z)
        self.made.clear()
        self._unit_prototypes()

    def groups(self) -> list[Group]:
        network = [*self.encoder.parameters(), *self.projector.parameters()]
        return [
            Group("network", [parameter for parameter in network if parameter.requires_grad]),
            Group("prototypes", self.prototypes.parameters(), frozen_until=self.frozen),
        ]

    @torch.no_grad()
    def _unit_prototypes(self) -> None:
        self.prototypes.weight.copy_(unit_rows(self.prototypes.weight))
