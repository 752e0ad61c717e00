"""Vectors of the samples of a source, each computed once and only when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor
from tqdm import tqdm

from autodidact.data.ahead import BATCHES_AHEAD, ahead
from autodidact.data.batch import Batch
from autodidact.data.returning import Returning, lagging
from autodidact.data.source import Positions, Source
from autodidact.model import Model
from autodidact.model.memory import keeping_memory
from autodidact.views import eval_view

Featurise = Callable[[Batch], Float[Tensor, "n d"]]
Change = Callable[[Tensor], Tensor]
"""From images to images of the same type and size."""


class Embeddings:
    """Vectors by position in a source.

    Parameters
    ----------
    featurise : from a batch on the CPU to one vector a sample.
    source : the samples.
    batch_size : samples in one call.
    quiet : no progress line.
    title : what the progress line says.
    """

    def __init__(
        self, featurise: Featurise, source: Source, *, batch_size: int = 256, quiet: bool = True, title: str = "embed"
    ) -> None:
        self.featurise, self.source = featurise, source
        self.batch_size, self.quiet, self.title = batch_size, quiet, title
        self._done = np.zeros(len(source), dtype=bool)
        self._rows: Float32[np.ndarray, "n d"] | None = None

    def at(self, positions: Positions) -> Float32[np.ndarray, "m d"]:
        """Vectors of the samples at these positions."""
        todo = np.unique(positions[~self._done[positions]])
        parts = [todo[start : start + self.batch_size] for start in range(0, len(todo), self.batch_size)]
        bar = tqdm(parts, desc=self.title, unit="batch", disable=self.quiet, leave=False, delay=2)
        read = (self.source.batch(part) for part in parts)
        with keeping_memory() as keep, ahead(read, BATCHES_AHEAD) as batches:
            for part, rows in zip(bar, lagging(self._asked(batches, keep)), strict=True):
                self._fill(part, rows.here().numpy())
        if self._rows is None:
            return np.empty((0, 0), dtype=np.float32)
        return self._rows[positions]

    def _asked(self, batches: Iterable[Batch], keep: Callable[[], None]) -> Iterator[Returning]:
        """What the batches are turned into, on its way here."""
        for batch in batches:
            rows = Returning.of(self.featurise(batch).float())
            keep()
            yield rows

    def _fill(self, part: Positions, found: Float32[np.ndarray, "m d"]) -> None:
        """Take in the vectors at these positions."""
        if not np.isfinite(found).all():
            row = part[~np.isfinite(found).reshape(len(found), -1).all(1)][0]
            raise ValueError(f"the embedding of '{self.source.names[int(row)]}' holds NaN or infinite values")
        if self._rows is None:
            # Memory of rows that nobody asks for is never touched, hence never taken.
            self._rows = np.empty((len(self.source), found.shape[1]), dtype=np.float32)
        self._rows[part] = found
        self._done[part] = True


def of_changed(featurise: Featurise, change: Change, field: str) -> Featurise:
    """What `featurise` makes of images that were changed. Where images of several sizes lie on canvases, each is
    brought to the size of the canvas first, so that the change is as strong for all."""

    def changed(batch: Batch) -> Float[Tensor, "n d"]:
        images, box = batch[field], batch.fields.get("box")
        if isinstance(box, Tensor):
            images = eval_view(images, tuple(images.shape[-2:]), box=box)
        fields = {name: value for name, value in batch.fields.items() if name != "box"}
        return featurise(replace(batch, fields={**fields, field: change(images)}))

    return changed


def embedder(model: Model, device: str | torch.device = "cpu") -> Featurise:
    """The embedding of a model, which is brought to `device` and put in eval mode."""
    model.can("embed")
    model.eval().to(device)

    def featurise(batch: Batch) -> Float[Tensor, "n d"]:
        with torch.inference_mode():
            found = model.embed(batch.to(device))  # type: ignore[operator]
        return found.flatten(1)

    return featurise
