"""What a protocol on frozen embeddings may see."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Shaped

CHUNK = 8_192


@dataclass(frozen=True)
class Frozen:
    """One draw of labels, seen through frozen embeddings.

    The answers of the test rows and of the unlabelled rows have no place here, so no protocol can read them.

    Attributes
    ----------
    labelled : embeddings of the rows whose answers are known.
    answers : int64 classes in [0, classes), or float targets.
    unlabelled : embeddings of further training rows.
    test : embeddings of the rows to predict.
    classes : number of classes; 0 for a regression.
    seed : of every random choice inside the protocol.
    """

    labelled: Float32[np.ndarray, "n d"]
    answers: Shaped[np.ndarray, " n"]
    unlabelled: Float32[np.ndarray, "u d"]
    test: Float32[np.ndarray, "m d"]
    classes: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Scaler:
    """Shift and scale of each dimension, by the training rows: labelled and unlabelled, never the test rows.

    Every dimension gets mean 0, and is divided by the root of the mean of its own variance and of the average variance
    of all. A plain standardisation would blow up the dimensions that hardly vary, which costs raw pixels about four
    points of accuracy on digits; a single scale would leave those of a table as unequal as they came. A dimension that
    is constant up to rounding becomes 0.
    """

    mean: Float64[np.ndarray, " d"]
    scale: Float64[np.ndarray, " d"]

    @classmethod
    def of(cls, frozen: Frozen) -> Scaler:
        total = len(frozen.labelled) + len(frozen.unlabelled)
        mean = sum(chunk.sum(0) for chunk in _chunks(frozen)) / total
        variance = sum(((chunk - mean) ** 2).sum(0) for chunk in _chunks(frozen)) / total
        live = variance > 1e-12 * np.maximum(mean**2, variance.max(initial=0.0))
        shrunk = np.where(live, (variance + variance.mean()) / 2, 1.0)
        return cls(mean, np.where(live, shrunk**-0.5, 0.0))

    def __call__(self, rows: Float32[np.ndarray, "r d"]) -> Float32[np.ndarray, "r d"]:
        return (rows - self.mean.astype(np.float32)) * self.scale.astype(np.float32)


def _chunks(frozen: Frozen) -> Iterator[Float64[np.ndarray, "r d"]]:
    """The training rows in double precision, a few at a time."""
    for part in (frozen.labelled, frozen.unlabelled):
        for start in range(0, len(part), CHUNK):
            yield part[start : start + CHUNK].astype(np.float64)
