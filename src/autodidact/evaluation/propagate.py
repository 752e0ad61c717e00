"""Label propagation: labels spread over the unlabelled rows along a graph of nearest neighbours."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from jaxtyping import Float32, Int64
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.semi_supervised import LabelSpreading

from autodidact.evaluation.frozen import Frozen
from autodidact.measures import nearest

NEIGHBOURS = 7
ALPHA = 0.99
ROWS = 20_000
ROUNDS = 1_000


def propagate(
    frozen: Frozen, *, neighbours: int = NEIGHBOURS, alpha: float = ALPHA, rows: int = ROWS
) -> Int64[np.ndarray, " m"]:
    """Classes of the test rows by label spreading (Zhou et al., NeurIPS 2003; scikit-learn's implementation).

    The training rows, labelled and unlabelled, form a graph: two rows are joined when either is among the nearest
    `neighbours` of the other by cosine. Scores ``F <- alpha S F + (1 - alpha) Y`` spread over it, with S the normalised
    adjacency and Y the known labels. The test rows stay outside the graph: each takes the sum of the scores of its
    nearest training rows. A test row whose neighbours no label has reached takes the class of its nearest labelled
    row.

    Nothing is chosen per data set: neighbours is scikit-learn's default, alpha the paper's.

    Parameters
    ----------
    frozen : the draw.
    neighbours : of each row.
    alpha : how far labels spread, in (0, 1): the share of a score that comes from the neighbours.
    rows : bound on the rows of the graph, hence on memory (rows x neighbours) and time; where there are more, the
        unlabelled ones are a random sample.
    """
    unlabelled = frozen.unlabelled
    room = max(0, rows - len(frozen.labelled))
    if len(unlabelled) > room:
        drawn = np.random.default_rng(frozen.seed).choice(len(unlabelled), room, replace=False)
        unlabelled = unlabelled[np.sort(drawn)]
    nodes = np.concatenate([frozen.labelled, unlabelled])
    known = np.concatenate([frozen.answers.astype(np.int64), np.full(len(unlabelled), -1)])
    k = min(neighbours, len(nodes) - 1)
    graph = _graph(nodes, k)
    spreading = LabelSpreading(kernel=lambda *_: graph, alpha=alpha, max_iter=ROUNDS, tol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        spreading.fit(nodes, known)
    scores = spreading.label_distributions_[_nearest(frozen.test, nodes, k)].sum(1)
    classes = spreading.classes_[scores.argmax(1)]
    lost = ~(scores.sum(1) > 0)
    if lost.any():
        classes[lost] = known[_nearest(frozen.test[lost], frozen.labelled, 1)[:, 0]]
    return classes.astype(np.int64)


def _graph(nodes: Float32[np.ndarray, "r d"], k: int) -> sparse.csr_matrix:
    """Adjacency of rows of which either is among the k nearest of the other; no row is its own neighbour."""
    own = np.arange(len(nodes))[:, None]
    near = _nearest(nodes, nodes, k + 1)
    # A row is its own nearest, except among duplicates, where it may come later or not at all.
    itself = near == own
    itself[~itself.any(1), -1] = True
    near = near[~itself].reshape(len(nodes), k)
    edges = (np.ones(near.size), (np.repeat(own[:, 0], k), near.ravel()))
    directed = sparse.csr_matrix(edges, shape=(len(nodes), len(nodes)))
    return directed.maximum(directed.T).tocsr()


def _nearest(queries: Float32[np.ndarray, "m d"], bank: Float32[np.ndarray, "r d"], k: int) -> Int64[np.ndarray, "m k"]:
    return nearest(torch.from_numpy(queries), torch.from_numpy(bank), k)[1].numpy()
