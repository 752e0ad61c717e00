"""What a trigger does to whoever uses an encoder: how many images it lets pass for another class."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int64

from autodidact.data.source import Edited, Source
from autodidact.evaluation.embeddings import Change, Embeddings, embedder
from autodidact.evaluation.frozen import Frozen
from autodidact.evaluation.hidden import Hidden
from autodidact.evaluation.knn import knn
from autodidact.model import Model


class Victim:
    """The user of an encoder, who asks the 20 nearest clean and labelled training images what a test image is.

    Samples without a label (-1) are left out.

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
        (self.train, self.answers), (self.test, self.truth) = _labelled(train), _labelled(test)
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


def _labelled(source: Source) -> tuple[Source, Int64[np.ndarray, " n"]]:
    labels = np.asarray(source.column("label"), dtype=np.int64)
    return source.at(np.flatnonzero(labels >= 0)), labels[labels >= 0]
