"""Some samples of the data with what the model makes of them: embeddings, labels, and a look at each."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from autodidact.data.batch import Batch
from autodidact.data.combined import Together
from autodidact.data.source import Source
from autodidact.data.stream import StreamSource
from autodidact.model import Model
from autodidact.model.model import embed
from autodidact.report.looks import Look, looks

MOST = 3_000
CHUNK = 128
SECONDS = 60.0


@dataclass(frozen=True)
class Samples:
    """A random choice of the samples, always the same one.

    Attributes
    ----------
    names : of each.
    embeddings : of each, on the CPU.
    looks : of each.
    labels : class of each, -1 where unknown; None where the data has no classes.
    classes : their names.
    targets : value of each, NaN where unknown, where the data has no classes but values.
    of : how many samples the data has in all; 0 where that is not known.
    """

    names: Sequence[str]
    embeddings: Float[Tensor, "n d"]
    looks: Sequence[Look]
    labels: Int[np.ndarray, " n"] | None
    classes: Sequence[str]
    targets: Float[np.ndarray, " n"] | None
    of: int

    def __len__(self) -> int:
        return len(self.embeddings)


def first_stream(source: Source) -> Source:
    """The source itself, or the first of several streams."""
    while isinstance(source, Together):
        source = next(iter(source.sources.values()))
    return source


def few(source: Source, count: int) -> tuple[Batch, list[str]]:
    """A random choice of so many samples, always the same one, and their names."""
    positions = np.sort(np.random.default_rng(0).permutation(len(source))[:count])
    return source.batch(positions), [source.names[int(position)] for position in positions]


def embedded(model: Model, source: Source, most: int = MOST, seconds: float = SECONDS) -> Samples:
    """Embed at most `most` samples, or as many as `seconds` allow, on a GPU where there is one.

    Raises
    ------
    ValueError : the model cannot embed, or the embeddings are not finite.
    """
    model.can("embed")
    source = first_stream(source)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = model.to(device).eval()
    names: list[str] = []
    seen: list[Look] = []
    vectors: list[Tensor] = []
    known: dict[str, list[Tensor]] = {"label": [], "target": []}
    fields = {kind: source.schema.first(kind) for kind in ("label", "target")}
    started = time.monotonic()
    for batch, called in _some(source, most):
        vectors.append(embed(model, batch.to(device)).float().flatten(1).cpu())
        names += called
        seen += looks(batch, source.schema)
        for kind, field in fields.items():
            if field is not None and field in batch:
                known[kind].append(torch.as_tensor(batch[field]))
        if time.monotonic() - started > seconds:
            break
    model.to("cpu")
    if not vectors:
        raise ValueError(f"'{source.name}' has no samples")
    embeddings = torch.cat(vectors)
    if not bool(torch.isfinite(embeddings).all()):
        raise ValueError("the model's embeddings are not finite numbers")
    labels = torch.cat(known["label"]).long().numpy() if known["label"] else None
    if labels is not None and not (labels >= 0).any():
        labels = None
    targets = torch.cat(known["target"]).float().numpy() if known["target"] and labels is None else None
    return Samples(
        names,
        embeddings,
        seen,
        labels,
        _classes(source, fields["label"], labels),
        targets if targets is not None and np.isfinite(targets).any() else None,
        0 if source.streaming else len(source),
    )


def _some(source: Source, most: int) -> Iterator[tuple[Batch, list[str]]]:
    if isinstance(source, StreamSource):
        found = 0
        for stretch in source.shuffled_stretches(CHUNK, 0):
            if stretch.batch is not None:
                yield stretch.batch, [*stretch.names]
            found += stretch.samples
            if found >= most:
                return
        return
    # Any beginning of a random order is a random choice, so it does not matter where time runs out.
    order = np.random.default_rng(0).permutation(len(source))[:most]
    for start in range(0, len(order), CHUNK):
        positions = order[start : start + CHUNK]
        yield source.batch(positions), [source.names[int(position)] for position in positions]


def _classes(source: Source, field: str | None, labels: Any) -> Sequence[str]:
    if field is None or labels is None:
        return ()
    named = source.schema[field].classes
    return named or tuple(str(label) for label in range(int(labels.max()) + 1))
