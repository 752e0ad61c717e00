"""What the embeddings of some samples look like as a whole: spectrum, rank, verdict, neighbours, and maps of two
dimensions."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from autodidact.measures import Spectrum, collapse_verdict, effective_rank

WIDE = 2_048
ROWS_WHEN_WIDE = 1_000
FEWEST_FOR_GROUPS = 300
NEIGHBOURHOODS = (
    "Samples that are near each other in the embedding are near each other here; long distances, sizes of groups and "
    "the axes mean nothing."
)
MOST_FOR_TSNE = 2_000


@dataclass(frozen=True)
class Shape:
    """Figures of a cloud of embeddings.

    Attributes
    ----------
    singular_values : of the embeddings around their mean, descending.
    rankme : effective rank, mean included, as the paper has it; 0 where every embedding is zero.
    centred_rank : effective rank around the mean; 0 where all embeddings are alike.
    possible : largest rank that so many embeddings of so many dimensions can have.
    verdict : a warning in plain words when they have collapsed, else None.
    """

    singular_values: Float[np.ndarray, " m"]
    rankme: float
    centred_rank: float
    possible: int
    verdict: str | None


def shape_of(embeddings: Float[Tensor, "n d"]) -> Shape:
    """The figures of at least two embeddings. Of more than 2,048 dimensions only 1,000 rows are looked at."""
    rows = in_own_span(embeddings[:ROWS_WHEN_WIDE]) if embeddings.shape[1] > WIDE else embeddings
    spectrum = Spectrum().update(rows)
    centred = spectrum.singular_values(center=True)
    return Shape(
        centred.numpy(),
        _rank(spectrum.singular_values()),
        _rank(centred),
        min(embeddings.shape),
        collapse_verdict(spectrum),
    )


def _rank(singular_values: Float[Tensor, " m"]) -> float:
    return effective_rank(singular_values) if bool(singular_values.sum() > 0) else 0.0


def in_own_span(rows: Float[Tensor, "n d"]) -> Float[Tensor, "n m"]:
    """The same rows in an orthonormal basis of their span: lengths and angles stay, and there are no more dimensions
    than rows."""
    rows = rows.double()
    return rows @ torch.linalg.qr(rows.T).Q if rows.shape[1] > rows.shape[0] else rows


@dataclass(frozen=True)
class Map:
    """Positions in the plane, what made them, and what the axes are; the axes of a nonlinear map mean nothing."""

    title: str
    points: Float[np.ndarray, "n 2"]
    axes: tuple[str, str]
    note: str


def maps(embeddings: Float[Tensor, "n d"]) -> Iterator[Map]:
    """The two principal components; and from 300 samples on a map of neighbourhoods. Up to 2,000 samples that is t-SNE,
    a few seconds; for more it is UMAP where it is installed, which compiles itself for 20 seconds first, else t-SNE of
    the first 2,000. A map has a point for each of the first samples."""
    if len(embeddings) >= FEWEST_FOR_GROUPS:
        many = len(embeddings) > MOST_FOR_TSNE
        yield _umap(embeddings) if many and find_spec("umap") is not None else _tsne(embeddings[:MOST_FOR_TSNE])
    yield _principal(embeddings)


def _principal(embeddings: Float[Tensor, "n d"]) -> Map:
    centred = embeddings - embeddings.mean(0)
    wanted = min(2, *centred.shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        u, s, _ = torch.svd_lowrank(centred, q=min(8, *centred.shape), niter=8)
    points = torch.zeros(len(centred), 2)
    points[:, :wanted] = (u * s)[:, :wanted]
    # The sign of a component is arbitrary; this one does not change from run to run.
    largest = points.abs().argmax(0)
    points *= torch.where(points[largest, torch.arange(2)] < 0, -1.0, 1.0)
    whole = float(centred.double().square().sum())
    shares = [float(s[i].double() ** 2) / whole if whole > 0 and i < wanted else 0.0 for i in range(2)]
    return Map(
        "Principal components",
        points.double().numpy(),
        (f"first component ({shares[0]:.0%} of the spread)", f"second component ({shares[1]:.0%})"),
        "The two directions in which the embeddings differ most. Groups that overlap here may be apart in others.",
    )


def _umap(embeddings: Float[Tensor, "n d"]) -> Map:
    with warnings.catch_warnings():
        # It says that a fixed seed makes it run on one core.
        warnings.simplefilter("ignore")
        import umap

        points = umap.UMAP(metric="cosine", random_state=0, n_jobs=1).fit_transform(embeddings.numpy())
    return Map("UMAP", np.asarray(points, dtype=np.float64), ("", ""), NEIGHBOURHOODS)


def _tsne(embeddings: Float[Tensor, "m d"]) -> Map:
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    unit = torch.nn.functional.normalize(embeddings, dim=1).numpy()
    # Its many short parallel loops lose more by waiting for each other, on a machine with other work, than they gain.
    with threadpool_limits(1):
        points = TSNE(init="pca", max_iter=500, random_state=0).fit_transform(unit)
    return Map("t-SNE", np.asarray(points, dtype=np.float64), ("", ""), NEIGHBOURHOODS)
