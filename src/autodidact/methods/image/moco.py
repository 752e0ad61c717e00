"""MoCo v2: a query finds its key among a queue of earlier ones, which a slowly moving copy of the network made."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from autodidact.catalog import Card
from autodidact.heads import projector
from autodidact.methods.method import Loss, Progress, Views
from autodidact.methods.two_views import SeveralViews, augment_for
from autodidact.model import Encoder
from autodidact.objectives import momentum_contrast
from autodidact.objectives.shards import gathered, shard_sizes
from autodidact.targets import EMATeacher, Queue

CARD = Card(
    name="moco",
    target="MoCo",
    kind="method",
    title="MoCo v2",
    paper="Chen, Fan, Girshick, He: Improved Baselines with Momentum Contrastive Learning (2003.04297, 2020)",
    summary="SimCLR for small batches: negatives come from a queue of keys that a slow copy of the network made.",
    needs=(("image", "image"),),
    arguments=("queue", "momentum", "temperature"),
    search=(("temperature", "0.05:1:log"),),
    encoder="small:convnet",
)

NO_SLOT = -1


class MoCo(SeveralViews):
    """Momentum contrast (arXiv 1911.05722, section 3; v2's head and views, 2003.04297).

    A query is contrasted with the queue and with the other images' keys of its own batch, so that the first updates,
    when the queue is empty, have negatives too; the authors use the queue alone. Keys of the query's own image are
    never negatives, however old.

    The authors shuffle images between devices, since batch statistics that query and key share would tell which key
    belongs to the query's batch. Here a key is made with running statistics that follow as slowly as the weights do, as
    in EMAN (2101.08482): it depends on its own image alone, nothing of the batch is written into it, and there is
    nothing to shuffle. That the batch norms of the queries see the batches of all processes would not be enough, since
    the keys in the queue come from other batches.

    Where views have slots (`bss`), each view is query once, and only keys of its own slot repel it. The queue holds
    keys of slots that are gone, and is not used.

    Parameters
    ----------
    encoder : image encoder.
    queue : keys that are kept. Paper: 65536 for a million images; it should stay well below the number of images.
    momentum : share of the slow copy that stays in every update, in [0, 1]. Paper: 0.999; less for short trainings.
    temperature : divides the cosine similarities. Paper: 0.2.
    symmetric : whether each view is query once and key once, at twice the cost of an update. Paper: no.
    hidden : width of the projector's hidden layer; 0 for the encoder's width. Paper: 2048.
    dimensions : width of the projections. Paper: 128.
    view : augmentation by name: "auto", "simclr", "grey", "tiny", "weak", ...
    view_changes : fields of `autodidact.views.Augment` to change, for example ``{blur_p: 0}``.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        queue: int = 4096,
        momentum: float = 0.999,
        temperature: float = 0.2,
        symmetric: bool = False,
        hidden: int = 0,
        dimensions: int = 128,
        view: str = "auto",
        view_changes: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        augment = augment_for(encoder, view, view_changes)
        self.encoder, self.augments = encoder, (augment, augment)
        self.projector = projector(encoder.width, hidden or encoder.width, dimensions, norm=None)
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        self.temperature, self.symmetric = temperature, symmetric
        self.slow_encoder = EMATeacher(encoder, momentum, average_buffers=True)
        self.slow_projector = EMATeacher(self.projector, momentum, average_buffers=True)
        self.queue = Queue(queue, dimensions)
        self.made: list[tuple[Tensor, Tensor]] = []

    def loss(self, views: Views, progress: Progress) -> Loss:
        assert views.ids is not None
        both = self.symmetric or views.slot is not None
        directions = [("a", "b"), ("b", "a")] if both else [("a", "b")]
        keys = {name: self.slow_projector(self.slow_encoder(views[name]).pooled) for _, name in directions}
        bank, bank_ids, bank_slots = self._bank(keys, views)
        losses: list[Tensor] = []
        watch: dict[str, Tensor] = {}
        for query, key in directions:
            h = self._pooled(views[query])
            q = self.projector(h)
            allowed = views.ids[:, None] != bank_ids
            if views.slot is not None:
                allowed &= views.slot[query][:, None] == bank_slots
            losses.append(momentum_contrast(q, keys[key], bank, self.temperature, allowed=allowed))
            watch = watch or {"embedding": h, "projection": q, "projection_b": keys[key]}
        if self.training and views.slot is None:
            self.made += [(made, views.ids) for made in keys.values()]
        return Loss(torch.stack(losses).mean(), {}, watch)

    def _bank(self, keys: dict[str, Tensor], views: Views) -> tuple[Tensor, Tensor, Tensor]:
        """Keys of all processes, then the queue: with the ids of their samples, and their slots."""
        ids = views.ids
        assert ids is not None
        slots = views.slot or {name: torch.full_like(ids, NO_SLOT) for name in keys}
        sizes = shard_sizes(len(ids), ids.device)
        parts = [
            (torch.cat(gathered(made, sizes)), torch.cat(gathered(ids, sizes)), torch.cat(gathered(slots[name], sizes)))
            for name, made in keys.items()
        ]
        if views.slot is None:
            held = self.queue.embeddings
            parts.append((held.to(parts[0][0]), self.queue.ids, torch.full_like(self.queue.ids, NO_SLOT)))
        bank, bank_ids, bank_slots = (torch.cat(columns) for columns in zip(*parts, strict=True))
        return bank, bank_ids, bank_slots

    def after_update(self, progress: Progress) -> None:
        for keys, ids in self.made:
            self.queue.push(keys, ids)
        self.made.clear()
        self.slow_encoder.update(self.encoder)
        self.slow_projector.update(self.projector)
