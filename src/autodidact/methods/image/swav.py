"""SwAV: what cluster one view of an image belongs to is predicted from its other views, large and small."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from autodidact.catalog import Card
from autodidact.heads import projector
from autodidact.methods.method import Group, Loss, Progress, Views
from autodidact.methods.two_views import LARGE_VIEWS, SeveralViews, augment_for, large_and_small
from autodidact.model import Encoder
from autodidact.objectives import sinkhorn, swapped_prediction
from autodidact.objectives.embeddings import full_precision, full_precision_region, unit_rows
from autodidact.objectives.shards import gathered, process, shard_sizes, world_size
from autodidact.targets import Queue

CARD = Card(
    name="swav",
    target="SwAV",
    kind="method",
    title="SwAV",
    paper="Caron, Misra, Mairal, Goyal, Bojanowski, Joulin: Unsupervised Learning of Visual Features by Contrasting "
    "Cluster Assignments (2006.09882, 2020)",
    summary="Clusters online: the balanced cluster of one view is predicted from others, small ones too; no negatives.",
    needs=(("image", "image"),),
    arguments=("prototypes", "epsilon", "local_count", "queue"),
    encoder="small:convnet",
)

CODED = LARGE_VIEWS
"""Views that get a code."""


class SwAV(SeveralViews):
    """Swapped assignments between views (arXiv 2006.09882, section 3).

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
    hidden : width of the projector's hidden layer; 0 for the encoder's width. Paper: 2048.
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
        frozen: int = 313,
        local_count: int = 4,
        local_size: int = 0,
        global_scale: tuple[float, float] | None = None,
        local_scale: tuple[float, float] | None = None,
        queue: int = 0,
        queue_from: int = 15,
        hidden: int = 0,
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
        self.projector = projector(encoder.width, hidden or encoder.width, dimensions)
        self.prototypes = nn.Linear(dimensions, prototypes, bias=False)
        self._unit_prototypes()
        self.frozen, self.queue_from = frozen, queue_from
        self.queues = nn.ModuleList(Queue(queue, dimensions) for _ in range(CODED if queue else 0))
        self.made: list[tuple[Tensor, ...]] = []

    def loss(self, views: Views, progress: Progress) -> Loss:
        shown = list(views.named.values())
        h = self._pooled_by_size(shown)
        projected = self.projector(h)
        with full_precision_region(h.device):
            z = unit_rows(full_precision(projected))
            scores = (z @ full_precision(self.prototypes.weight).T).chunk(len(shown))
            codes = [self._codes(view, scores[view].detach(), views, progress) for view in range(CODED)]
        n = len(shown[0])
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
                codes[rows] = sinkhorn(scores[rows], self.epsilon, self.iterations)
            return codes
        if self.queues and progress.epoch >= self.queue_from:
            queue = self.queues[view]
            assert isinstance(queue, Queue)
            # All processes hold one queue; each brings its share of it to the balance.
            earlier = queue.embeddings[process() :: world_size()] @ full_precision(self.prototypes.weight).T
            return sinkhorn(torch.cat([scores, earlier]), self.epsilon, self.iterations)[: len(scores)]
        return sinkhorn(scores, self.epsilon, self.iterations)

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
