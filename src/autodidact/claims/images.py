"""What the claims on images share: real images without their labels to train on, and accuracies of a frozen encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from autodidact.data import Source, open_source
from autodidact.data.source import Edited
from autodidact.encoders import build
from autodidact.encoders.kept import PredictorModel
from autodidact.evaluation.attack import at_size
from autodidact.evaluation.embeddings import embedder
from autodidact.evaluation.frozen import Frozen
from autodidact.evaluation.knn import knn
from autodidact.evaluation.linear import fit_probe
from autodidact.model import Encoder, Model
from autodidact.model.device import pick_device
from autodidact.training.tokens import counted_tokens
from autodidact.views.distort import Distortion, distort
from autodidact.worlds.tinted import tinted

MEAN, STD = 0.286, 0.353
"""Of Fashion-MNIST's training images in [0, 1]."""
PER_CLASS = 100
"""Labels a class for the linear probe."""


@dataclass(frozen=True)
class Split:
    """Disjoint samples: to train on, to choose settings by, to report on."""

    train: Source
    validation: Source
    test: Source


def split_images(data: str, images: int, held: int, seed: int, side: int | None = None) -> Split:
    """Draw a split of Fashion-MNIST, or of digits to try things out.

    Parameters
    ----------
    data : "fashion_mnist" or "digits".
    images : training images, drawn by the seed.
    held : images for validation, and for the test; the test images of Fashion-MNIST come from its own test set, and are
        the same for every seed.
    seed : of the draw.
    side : pixels to which the images are enlarged, one for both sides; default as they are.
    """
    split = _drawn(data, images, held, seed)
    if side is None:
        return split
    return Split(*(at_size(part, (side, side)) for part in (split.train, split.validation, split.test)))


def _drawn(data: str, images: int, held: int, seed: int) -> Split:
    rng = np.random.default_rng(seed)
    if data == "digits":
        source = _opened("digits", None)
        order = rng.permutation(len(source))
        parts = np.split(order, [images, images + held, images + 2 * held])
        return Split(*(source.at(np.sort(part)) for part in parts[:3]))
    train, test = _opened(data, "train"), _opened(data, "test")
    order = rng.permutation(len(train))
    chosen = np.random.default_rng(0).permutation(len(test))[:held]
    return Split(
        train.at(np.sort(order[:images])), train.at(np.sort(order[images : images + held])), test.at(np.sort(chosen))
    )


TINTED_MEAN, TINTED_STD = 0.43, 0.2
"""Of the tinted garments in [0, 1]."""


def in_colours(split: Split) -> Split:
    """The split painted in colours that say nothing of the class, three channels of 32 pixels a side."""
    return Split(*(tinted(part) for part in (split.train, split.validation, split.test)))


@cache
def _opened(data: str, part: str | None) -> Source:
    return open_source(data, split=part, progress=False)


def fresh_encoder(name: str, source: Source, seed: int, mean: float = MEAN, std: float = STD) -> Encoder:
    """An encoder whose random weights follow from the seed alone, so that all arms of a seed start alike.

    Parameters
    ----------
    mean, std : of the images in [0, 1]; default those of Fashion-MNIST.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(name, schema=source.schema, statistics={"mean": [mean], "std": [std]})


def embeddings(model: Model, source: Source) -> Float32[np.ndarray, "n d"]:
    """Embeddings of all samples, in order; the model is back on the CPU, in eval mode, afterwards."""
    featurise = embedder(model, pick_device())
    rows = np.concatenate([featurise(batch).cpu().numpy() for batch in source.in_order(500)])
    model.cpu()
    return rows


def labels_of(source: Source) -> np.ndarray:
    """Labels of all samples, in order."""
    return np.asarray(source.column("label"), dtype=np.int64)


def first_of_each(labels: np.ndarray, count: int) -> np.ndarray:
    """Positions of the first so many of every class."""
    return np.concatenate([np.flatnonzero(labels == c)[:count] for c in np.unique(labels)])


def tokens_of_an_image(network: Encoder, source: Source) -> int:
    """Tokens that a transformer encodes for one image of a source."""
    with counted_tokens([network]) as count, torch.inference_mode():
        network(network.prepare(source.batch(np.arange(1)).fields))
    return int(count.tokens)


def percent_right(predictor: PredictorModel, source: Source) -> float:
    """Percent of the images whose class a predictor names."""
    predictor.eval()
    with torch.inference_mode():
        said = torch.cat([predictor.predict(batch).argmax(1) for batch in source.in_order(500)])
    return 100 * float((said.numpy() == labels_of(source)).mean())


def accuracies(
    model: Model,
    split: Split,
    *,
    linear: bool = True,
    per_class: int = PER_CLASS,
    corruptions: Sequence[Distortion] = (),
    seed: int = 0,
) -> dict[str, float]:
    """Percent of the held-out images that a frozen encoder tells apart.

    Parameters
    ----------
    per_class : labels a class (the first in order) for the linear probe.
    corruptions : what is done to the test images for ``corrupted``, at strength 2.
    seed : of the noise there.

    Returns
    -------
    dict
        ``knn`` and ``validation``: 20 nearest training images by cosine, on the test and on the validation images;
        ``linear``: logistic regression, on the test images; ``corrupted``: the mean of the same probe over the
        corruptions.
    """
    train, answers = embeddings(model, split.train), labels_of(split.train)
    classes = int(answers.max()) + 1
    nobody = np.empty((0, train.shape[1]), dtype=np.float32)
    figures: dict[str, Any] = {}
    for name, source in (("knn", split.test), ("validation", split.validation)):
        rows = embeddings(model, source)
        frozen = Frozen(train, answers, nobody, rows, classes)
        figures[name] = 100 * float((knn(frozen) == labels_of(source)).mean())
        if name == "knn" and linear:
            few = first_of_each(answers, per_class)
            probe = fit_probe(Frozen(train[few], answers[few], train, rows, classes))
            figures["linear"] = 100 * float((probe.predict(rows) == labels_of(split.test)).mean())
            seen = [embeddings(model, corrupted(split.test, kind, seed)) for kind in corruptions]
            if seen:
                right = [(probe.predict(found) == labels_of(split.test)).mean() for found in seen]
                figures["corrupted"] = 100 * float(np.mean(right))
    return figures


def corrupted(source: Source, kind: Distortion, seed: int, strength: int = 2) -> Source:
    """The images with noise, blur or whatever else `autodidact.views.distort` makes."""
    generator = torch.Generator().manual_seed(seed)
    return Edited(source, "image", lambda images: distort(images, kind, strength, generator))
