"""Label propagation: labels spread over the unlabelled rows along a graph of nearest neighbours."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from jaxtyping import Float32, Int64
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold
from sklearn.semi_supervised import LabelSpreading

from autodidact.evaluation.frozen import Frozen
from autodidact.measures import nearest

NEIGHBOURS = 7
ALPHAS = (0.5, 0.8, 0.95, 0.99)
ENOUGH = 10
FOLDS = 3
ROWS = 20_000
ROUNDS = 1_000


def propagate(
    frozen: Frozen, *, neighbours: int = NEIGHBOURS, alpha: float | None = None, rows: int = ROWS
) -> Int64[np.ndarray, " m"]:
    """Classes of the test rows by label spreading (Zhou et al., NeurIPS 2003; scikit-learn's `LabelSpreading`).

    The training rows, labelled and unlabelled, form a graph: two rows are joined when either is among the nearest
    `neighbours` of the other by cosine. Scores ``F <- alpha S F + (1 - alpha) Y`` spread over it, with S the normalised
    adjacency and Y the known labels. The test rows stay outside the graph: each takes the sum of the scores of its
    nearest training rows. A test row whose neighbours no label has reached takes the class of its nearest labelled
    row.

    Parameters
    ----------
    frozen : the draw.
    neighbours : of each row; the default is scikit-learn's.
    alpha : how far labels spread, in (0, 1): the share of a score that comes from the neighbours. None chooses: of 0.5,
        0.8, 0.95 and 0.99 the one with the best cross-validated accuracy **among the labelled rows**, in 3 folds; with
        fewer than 10 labelled rows a class there is too little to hold out, and it is 0.99, the paper's.
    rows : bound on the rows of the graph, hence on memory (rows x neighbours) and time; where there are more, the
        unlabelled ones are a random sample.
    """
    unlabelled = frozen.unlabelled
    room = max(0, rows - len(frozen.labelled))
    if len(unlabelled) > room:
        drawn = np.random.default_rng(frozen.seed).choice(len(unlabelled), room, replace=False)
        unlabelled = unlabelled[np.sort(drawn)]
    nodes = np.concatenate([frozen.labelled, unlabelled])
    answers = frozen.answers.astype(np.int64)
    known = np.concatenate([answers, np.full(len(unlabelled), -1)])
    k = min(neighbours, len(nodes) - 1)
    graph = _graph(nodes, k)
    spreading = _spread(graph, known, alpha or _choose(graph, known, answers, frozen))
    scores = spreading.label_distributions_[_nearest(frozen.test, nodes, k)].sum(1)
    classes = spreading.classes_[scores.argmax(1)]
    lost = ~(scores.sum(1) > 0)
    if lost.any():
        classes[lost] = known[_nearest(frozen.test[lost], frozen.labelled, 1)[:, 0]]
    return classes.astype(np.int64)


def _spread(graph: sparse.csr_matrix, known: Int64[np.ndarray, " r"], alpha: float) -> LabelSpreading:
    """Labels (-1 where unknown) spread over a graph."""
    spreading = LabelSpreading(kernel=lambda *_: graph, alpha=alpha, max_iter=ROUNDS, tol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        # The rows themselves are not looked at: the graph says everything.
        return spreading.fit(np.zeros((len(known), 1)), known)


def _choose(
    graph: sparse.csr_matrix, known: Int64[np.ndarray, " r"], answers: Int64[np.ndarray, " n"], frozen: Frozen
) -> float:
    """The alpha that finds held-out labels best; the largest among equals."""
    counts = np.bincount(answers)
    counts = counts[counts > 0]
    if len(answers) < ENOUGH * len(counts) or counts.min() < FOLDS:
        return ALPHAS[-1]
    folds = list(StratifiedKFold(FOLDS, shuffle=True, random_state=frozen.seed).split(answers, answers))
    right = np.zeros(len(ALPHAS))
    for i, alpha in enumerate(ALPHAS):
        for _, held in folds:
            shown = known.copy()
            shown[held] = -1
            right[i] += (_spread(graph, shown, alpha).transduction_[held] == answers[held]).sum()
    return ALPHAS[len(ALPHAS) - 1 - int(right[::-1].argmax())]


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
