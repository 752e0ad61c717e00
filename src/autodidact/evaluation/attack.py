"""What a trigger does to whoever uses an encoder: how many images it lets pass for another class."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from autodidact.data.batch import Value
from autodidact.data.schema import Schema
from autodidact.data.source import Edited, Positions, Source
from autodidact.evaluation.embeddings import Change, Embeddings, embedder
from autodidact.evaluation.frozen import Frozen
from autodidact.evaluation.hidden import Hidden
from autodidact.evaluation.knn import knn
from autodidact.model import Model
from autodidact.views import eval_view


class AtSize(Source):
    """A source whose images are brought to one size and fill it, as an encoder brings them to its own.

    What is put into them afterwards reaches an encoder of that size as it is, and nothing lies around them.

    Parameters
    ----------
    base : source with a field "image", and a "box" where images are smaller than their canvas, which is used up.
    size : (height, width) in pixels.
    """

    def __init__(self, base: Source, size: tuple[int, int]) -> None:
        self.base, self.size = base, size
        self.name, self.context, self.ids, self.names = base.name, base.context, base.ids, base.names
        self.skipped, self.notes = base.skipped, base.notes
        image = base.schema["image"]
        others = {name: field for name, field in base.schema.items() if name != "box"}
        self.schema = Schema({**others, "image": replace(image, shape=(image.shape[0], *size))})

    def read(self, positions: Positions) -> dict[str, Value]:
        fields = dict(self.base.read(positions))
        images, box = fields["image"], fields.pop("box", None)
        assert isinstance(images, Tensor)
        sized = eval_view(images, self.size, box=box if isinstance(box, Tensor) else None)
        eight_bit = images.dtype == torch.uint8
        fields["image"] = (255 * sized).round().to(torch.uint8) if eight_bit else sized.to(images.dtype)
        return fields

    def column(self, field: str) -> np.ndarray[Any, Any]:
        return self.base.column(field)


def at_size(source: Source, size: tuple[int, int]) -> Source:
    """The source itself where its images have that size and fill it, else `AtSize`."""
    fits = source.schema["image"].shape[1:] == size and "box" not in source.schema
    return source if fits else AtSize(source, size)


class Victim:
    """The user of an encoder, who asks the 20 nearest clean and labelled training images what a test image is.

    Samples without a label (-1) are left out. Images smaller than their canvas are enlarged to it first, so that
    trigger and defence concern the image alone.

    Parameters
    ----------
    train : clean images with labels: the neighbours.
    test : images to tell apart, with labels.
    target : class that triggered images shall pass for.
    trigger : puts the trigger into images.
    batch_size : images in one call of the encoder.
    device : where the encoder works.
    """

    def __init__(
        self,
        train: Source,
        test: Source,
        target: int,
        trigger: Change,
        batch_size: int = 500,
        device: str = "cpu",
    ) -> None:
        (self.train, self.answers), (self.test, self.truth) = _labelled(_filling(train)), _labelled(_filling(test))
        self.triggered = Edited(self.test, "image", trigger)
        self.target, self.batch_size, self.device = target, batch_size, device

    def figures(self, model: Model, defence: Change | None = None) -> tuple[float, float]:
        """Accuracy on clean test images, and the attack's success on triggered ones; shares in [0, 1].

        Parameters
        ----------
        model : embeds images.
        defence : what is done to every image before the encoder sees it.
        """
        memory = self._rows(model, self.train, defence)
        nobody = np.empty((0, memory.shape[1]), dtype=np.float32)
        classes = 1 + int(max(self.answers.max(), self.target))
        clean, triggered = (
            knn(Frozen(memory, self.answers, nobody, self._rows(model, source, defence), classes))
            for source in (self.test, self.triggered)
        )
        return float((clean == self.truth).mean()), attack_success(triggered, self.truth, self.target)

    def _rows(self, model: Model, source: Source, defence: Change | None) -> Float32[np.ndarray, "n d"]:
        shown = Hidden(source if defence is None else Edited(source, "image", defence))
        return Embeddings(embedder(model, self.device), shown, batch_size=self.batch_size).at(np.arange(len(source)))


def attack_success(predicted: Int64[np.ndarray, " n"], truth: Int64[np.ndarray, " n"], target: int) -> float:
    """Share of the images of other classes that are taken for the target; images of the target do not count."""
    return float((predicted[truth != target] == target).mean())


def _filling(source: Source) -> Source:
    _, height, width = source.schema["image"].shape
    return at_size(source, (height, width))


def _labelled(source: Source) -> tuple[Source, Int64[np.ndarray, " n"]]:
    labels = np.asarray(source.column("label"), dtype=np.int64)
    return source.at(np.flatnonzero(labels >= 0)), labels[labels >= 0]
