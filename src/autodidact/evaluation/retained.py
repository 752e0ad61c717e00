"""What a method still knows of a data set: its own loss on held-out samples, and nearest neighbours."""

from __future__ import annotations

import numpy as np
import torch

from autodidact.data.folder import evenly
from autodidact.data.source import Source
from autodidact.evaluation.embeddings import embedder
from autodidact.evaluation.frozen import Frozen
from autodidact.evaluation.knn import knn
from autodidact.methods.method import Method, Progress
from autodidact.model import Model

BANK = 5_000
"""Training samples among which neighbours are looked for, at most."""


def held_out_loss(method: Method, source: Source, batch_size: int, *, device: str = "cpu", seed: int = 0) -> float:
    """Mean of a method's own loss over the batches of a source, in eval mode, with views that follow from the seed.

    Batches are of one size, since many losses depend on it: a last one that is smaller is left out, unless it is alone.
    """
    training = method.training
    method.eval().to(device)
    progress = Progress(0, 1, 0, torch.Generator().manual_seed(seed))
    losses: list[float] = []
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for batch in source.in_order(batch_size):
            if len(batch) < batch_size and losses:
                break
            losses.append(float(method.loss(method.views(batch.to(device), progress), progress).total))
    method.train(training)
    return float(np.mean(losses))


def neighbour_accuracy(model: Model, train: Source, held: Source, label: str, *, device: str = "cpu") -> float:
    """Share of held-out samples whose class their nearest training samples name (`evaluation.knn`); rows without a
    class are left out."""
    featurise = embedder(model, device)
    bank = np.asarray(evenly(len(train), BANK))
    parts = [train.at(bank), held]
    answers = [np.asarray(part.column(label), dtype=np.int64) for part in parts]
    parts = [part.at(np.flatnonzero(known >= 0)) for part, known in zip(parts, answers, strict=True)]
    rows = [np.concatenate([featurise(batch).cpu().float().numpy() for batch in part.in_order(512)]) for part in parts]
    answers = [known[known >= 0] for known in answers]
    frozen = Frozen(rows[0], answers[0], rows[0][:0], rows[1], int(answers[0].max()) + 1)
    return float((knn(frozen) == answers[1]).mean())
