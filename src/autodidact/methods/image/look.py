"""LOOK: labels pretrain an encoder through a leave-one-out nearest-neighbour loss, which spares hidden sub-classes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

from autodidact.catalog import Card
from autodidact.data.batch import Batch
from autodidact.data.schema import Kind
from autodidact.heads import projector
from autodidact.methods.method import Loss, Method, Progress, Views
from autodidact.methods.two_views import augment_for
from autodidact.model import Encoder
from autodidact.objectives import leave_one_out
from autodidact.objectives.neighbours import Fallback, Sum
from autodidact.targets import EMATeacher, Queue

CARD = Card(
    name="look",
    target="LOOK",
    kind="method",
    number=29,
    title="LOOK",
    paper="Feng, Jiang, Tang, Jin, Gao: Rethinking Supervised Pre-training for Better Transferring (2110.06014, 2021)",
    summary="Pretrains on coarse labels through the nearest neighbours only, so that classes may stay of many modes.",
    needs=(("image", "image"), ("label", "label")),
    arguments=("neighbours", "bank", "positives"),
    claim="look",
    encoder="small:convnet",
)


class LOOK(Method):
    """Leave-one-out k-nearest-neighbour pretraining (arXiv 2110.06014).

    An image only needs most of its nearest neighbours to be of its class, where cross-entropy and SupCon pull the whole
    class together. Neighbours are sought among the keys of a slow copy of the network, of other images only. With
    ``neighbours=0`` (all keys) the same loss is NCA, and with ``positives="outside", leave_one_out=False`` besides it
    is SupCon on a bank of keys.

    The log shows ``empty``, the share of labelled images without a neighbour of their class (see `fallback`),
    ``left_out``, the share of them that does not count, and ``unlabelled``, the share of all images that have no label
    (-1): these do not count and are nobody's neighbours.

    Parameters
    ----------
    encoder : image encoder.
    neighbours : k, the nearest keys that decide, >= 1; 0 for all keys. At least a tenth of what the bank holds of a
        class is a good start; a k near that of the bank loses the method's point.
    bank : keys that are kept. Where the data has no more samples than that, the bank holds the newest key of each; else
        it is a queue. Paper: a queue as MoCo's, which has 65,536.
    momentum : share of the slow copy that stays in every update, in [0, 1]. MoCo: 0.999 for long training.
    temperature : divides the cosine similarities.
    fallback : what happens to an image without a positive among its neighbours: "nearest_positive" takes the nearest
        one as a further neighbour, "full" takes all keys, "skip" leaves the image out.
    positives : where the sum over the positives stands, "inside" the logarithm or "outside", see
        `autodidact.objectives.leave_one_out`.
    leave_one_out : whether an image's own key is left out of its neighbours.
    hidden : width of the projector's hidden layer; 0 for the encoder's width.
    dimensions : width of the projections.
    view : augmentation by name: "auto", "simclr", "grey", "tiny", "weak", ...
    view_changes : fields of `autodidact.views.Augment` to change, for example ``{blur_p: 0}``.
    """

    needs: ClassVar[Mapping[str, Kind]] = {"image": "image", "label": "label"}

    def __init__(
        self,
        encoder: Encoder,
        *,
        samples: int,
        neighbours: int = 50,
        bank: int = 65_536,
        momentum: float = 0.99,
        temperature: float = 0.1,
        fallback: Fallback = "nearest_positive",
        positives: Sum = "inside",
        leave_one_out: bool = True,
        hidden: int = 0,
        dimensions: int = 128,
        view: str = "auto",
        view_changes: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if neighbours < 0:
            raise ValueError(f"neighbours is a number of keys, or 0 for all of them; got {neighbours}")
        whole = 0 < samples <= bank
        keys = samples if whole else bank
        if neighbours and neighbours >= keys - 1:
            warnings.warn(
                f"{neighbours} neighbours are all of a bank of {keys} keys: this is NCA, with every image of a class "
                "pulled together; take fewer",
                stacklevel=2,
            )
        self.encoder, self.augment = encoder, augment_for(encoder, view, view_changes)
        self.projector = projector(encoder.width, hidden or encoder.width, dimensions)
        self.slow_encoder, self.slow_projector = EMATeacher(encoder, momentum), EMATeacher(self.projector, momentum)
        self.keys = Queue(keys, dimensions, distinct=whole)
        self.neighbours, self.temperature = neighbours or None, temperature
        self.fallback, self.positives, self.leave_one_out = fallback, positives, leave_one_out

    def views(self, batch: Batch, progress: Progress) -> Views:
        box = batch.get("box")
        made = {name: self.augment(batch["image"], progress.generator, box) for name in ("query", "key")}
        return Views({**made, "label": batch["label"]}, batch.ids)

    def loss(self, views: Views, progress: Progress) -> Loss:
        ids, labels = views.ids, views["label"]
        assert ids is not None
        key = self.slow_projector(self.slow_encoder(views["key"]).pooled)
        if self.training:
            # Before the comparison, so that no row of the bank is older than it must be; own keys are left out by id.
            self.keys.push(key, ids, labels)
        embedding = self.encoder(views["query"]).pooled
        query = self.projector(embedding)
        found = leave_one_out(
            query,
            labels,
            self.keys.embeddings,
            self.keys.labels,
            k=self.neighbours,
            temperature=self.temperature,
            own=ids[:, None] == self.keys.ids if self.leave_one_out else None,
            positives=self.positives,
            fallback=self.fallback,
        )
        terms = {"empty": found.empty, "left_out": found.left_out, "unlabelled": (labels < 0).float().mean()}
        return Loss(found.total, terms, {"embedding": embedding, "projection": query, "projection_b": key})

    def after_update(self, progress: Progress) -> None:
        self.slow_encoder.update(self.encoder)
        self.slow_projector.update(self.projector)
