"""Monitors: is the representation spreading out or collapsing, and does it tell classes apart?"""

from __future__ import annotations

import math
import warnings
from collections import deque
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from autodidact.data.batch import Batch
from autodidact.measures import Spectrum, alignment, collapse_verdict, uniformity
from autodidact.methods.method import Loss


@dataclass
class Window:
    """The newest embeddings, their partners, ids and labels, up to a number of rows."""

    rows: int = 2048
    _steps: deque[dict[str, Tensor]] = field(default_factory=deque)

    def add(self, loss: Loss, batch: Batch) -> None:
        """Keep what a step's loss lets be watched."""
        seen = {name: tensor.detach() for name, tensor in loss.watch.items()}
        if not seen:
            return
        if "embedding" in seen and len(seen["embedding"]) == len(batch.ids):
            seen["ids"] = batch.ids
            if "label" in batch.fields:
                seen["label"] = batch["label"]
        self._steps.append(seen)
        while len(self._steps) > 1 and sum(self._size(step) for step in self._steps) - self._size(self._steps[0]) >= (
            self.rows
        ):
            self._steps.popleft()

    @staticmethod
    def _size(step: dict[str, Tensor]) -> int:
        return len(next(iter(step.values())))

    def get(self, name: str) -> Tensor | None:
        """The rows of one watched tensor, oldest first; None where it was not watched."""
        kept = [step[name] for step in self._steps if name in step]
        return torch.cat(kept)[-self.rows :] if kept else None


WIDEST = 1024
"""Columns above which the spectrum is left out: its cost grows with their cube."""


def look(window: Window) -> tuple[dict[str, float], str | None]:
    """All figures that the window allows (rank, spread, alignment, uniformity, online kNN), and a plain warning where
    the embedding has collapsed."""
    figures: dict[str, float] = {}
    warning = None
    for name in ("embedding", "projection"):
        rows = window.get(name)
        if rows is None or len(rows) < 2 or not bool(torch.isfinite(rows).all()):
            continue
        rows = rows.flatten(1).float()
        if rows.shape[1] > WIDEST:
            figures[f"std/{name}"] = float(rows.std(0, unbiased=False).mean())
            continue
        spectrum = Spectrum().update(rows)
        figures[f"std/{name}"] = float(spectrum.per_dimension_std().mean())
        if bool(rows.any()):
            with warnings.catch_warnings():
                # A window is small on purpose; its rank is compared with that of other windows only.
                warnings.simplefilter("ignore")
                figures[f"rankme/{name}"] = spectrum.rankme()
        if name == "embedding":
            warning = collapse_verdict(spectrum)
    first, second = window.get("projection"), window.get("projection_b")
    if first is not None and len(first) > 1:
        figures["uniformity"] = uniformity(first.float())
        if second is not None:
            figures["alignment"] = alignment(first.float(), second.float())
    embedding, ids, labels = window.get("embedding"), window.get("ids"), window.get("label")
    if embedding is not None and ids is not None and labels is not None and len(labels) == len(embedding):
        figures["knn"] = left_out_knn(embedding.flatten(1).float(), ids, labels)
    return {name: value for name, value in figures.items() if math.isfinite(value)}, warning


def left_out_knn(rows: Float[Tensor, "n d"], ids: Int[Tensor, " n"], labels: Int[Tensor, " n"], k: int = 10) -> float:
    """Share of labelled rows whose k nearest rows of other samples (cosine) vote for their label."""
    known = labels >= 0
    rows, ids, labels = rows[known], ids[known], labels[known]
    if len(rows) <= k:
        return float("nan")
    unit = torch.nn.functional.normalize(rows, dim=1)
    similarity = (unit @ unit.T).masked_fill_(ids[:, None] == ids[None, :], -2.0)
    near = similarity.topk(k, dim=1)
    classes = int(labels.max()) + 1
    votes = torch.zeros(len(rows), classes, device=rows.device)
    votes.scatter_add_(1, labels[near.indices], (near.values / 0.1).exp())
    return float((votes.argmax(1) == labels).float().mean())
