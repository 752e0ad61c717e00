"""A contrastive method in which only samples of one group repel each other, whatever the batch holds."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from autodidact.data.batch import Batch
from autodidact.methods.method import Group, Loss, Method, Progress, Sweep, Views
from autodidact.model import Model
from autodidact.objectives.shards import gathered, shard_sizes


class SameGroup(Method):
    """A method with a mask on its negatives.

    On a batch that is of one group it is the method itself. Samples that are alone with their group have nothing to
    repel; they are left out and counted. A batch in which all are alone teaches nothing: its loss is 0.

    Parameters
    ----------
    inner : its loss heeds `Views.allowed`, and it updates in the usual way.
    field : integer field of the source with the group of each sample.
    """

    heeds_allowed = True

    def __init__(self, inner: Method, field: str) -> None:
        super().__init__()
        name = type(inner).__name__
        if not inner.heeds_allowed:
            raise ValueError(f"{name} does not say which pairs may repel each other; take whole batches of one group")
        if type(inner).update is not Method.update:
            raise ValueError(f"{name} updates in a way of its own, so its pairs cannot be masked; take whole batches")
        self.inner, self.field = inner, field
        self.needs = {**inner.needs, field: "group"}  # type: ignore[misc]
        self.one_need_suffices = False  # type: ignore[misc]
        self.slots = tuple(f"inner.{slot}" for slot in inner.slots)  # type: ignore[misc]
        self.batching, self.refresh_every = inner.batching, inner.refresh_every
        self.counts = Counter[str]()

    def views(self, batch: Batch, progress: Progress) -> Views:
        views = self.inner.views(batch, progress)
        return replace(views, slot=dict.fromkeys(views.named, batch[self.field]))

    def loss(self, views: Views, progress: Progress) -> Loss:
        assert views.slot is not None
        alone, samples = _alone(next(iter(views.slot.values())))
        if self.training:
            self.counts.update(samples=samples, alone=alone, batches=1, empty=int(alone == samples))
        if alone == samples:
            # Unmasked, so that all processes do the same work and every parameter has a gradient.
            free = self.inner.loss(replace(views, slot=None), progress)
            return replace(free, total=0 * free.total)
        with warnings.catch_warnings():
            # They are counted here.
            warnings.filterwarnings("ignore", message=".* anchors have no permitted negative")
            return self.inner.loss(views, progress)

    def told(self) -> str:
        """What was left out, in a sentence."""
        of = self.counts
        return (
            f"{of['alone']:,} of {of['samples']:,} samples shown had no other of their group in their batch and "
            f"repelled none; {of['empty']:,} of {of['batches']:,} batches were all of such and taught nothing"
        )

    def memory(self) -> dict[str, Any]:
        return {"counts": dict(self.counts), "inner": self.inner.memory()}

    def remember(self, memory: Mapping[str, Any]) -> None:
        self.counts = Counter(memory.get("counts", {}))
        self.inner.remember(memory.get("inner", {}))

    def after_update(self, progress: Progress) -> None:
        self.inner.after_update(progress)

    def refresh(self, sweep: Sweep, progress: Progress) -> None:
        self.inner.refresh(sweep, progress)

    def groups(self) -> list[Group]:
        return self.inner.groups()

    def pictures(self, views: Views) -> dict[str, Float[Tensor, "n c h w"]]:
        return self.inner.pictures(views)

    def kept(self) -> Model:
        return self.inner.kept()


def _alone(groups: Int[Tensor, " n"]) -> tuple[int, int]:
    """How many samples of the batch of all processes are the only ones of their group, and how many there are."""
    whole = torch.cat(gathered(groups, shard_sizes(len(groups), groups.device)))
    counts = whole.unique(return_counts=True)[1]
    return int((counts == 1).sum()), len(whole)
