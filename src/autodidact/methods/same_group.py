"""A contrastive method in which only samples of one group repel each other, whatever the batch holds."""

from __future__ import annotations

from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from autodidact.data.batch import Batch
from autodidact.methods.method import Group, Loss, Method, Progress, Sweep, Views
from autodidact.model import Model


class SameGroup(Method):
    """A method with a mask on its negatives.

    On a batch that is of one group it is the method itself. Anchors that are alone with their group have nothing to
    repel; `info_nce` leaves them out and counts them in a warning.

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

    def views(self, batch: Batch, progress: Progress) -> Views:
        views = self.inner.views(batch, progress)
        return replace(views, slot=dict.fromkeys(views.named, batch[self.field]))

    def loss(self, views: Views, progress: Progress) -> Loss:
        return self.inner.loss(views, progress)

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
