"""How sure a model is of an answer, by its samples and its probabilities, and how well that tells right from wrong.

Everything is computed in float64. What cannot be told, such as the spread of a single sample, is None and never 0.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped


def vote_share(answers: Sequence[str | None]) -> float | None:
    """Share of the samples that gave the most frequent answer, in (0, 1] (self-consistency, 2203.11171).

    Parameters
    ----------
    answers : of the samples; None where there is none to be found in it. Such a sample counts, but for no answer.

    Returns
    -------
    None where no sample has an answer.
    """
    counts = Counter(answer for answer in answers if answer is not None)
    return max(counts.values()) / len(answers) if counts else None


def equivalence_classes(answers: Sequence[str], same: Callable[[str, str], bool]) -> Int[np.ndarray, " n"]:
    """Class of each answer, from 0 in the order of their first members.

    Two answers are of one class where a chain of answers connects them in which neighbours are the same in both
    directions. Which are together thus does not depend on their order, even for a relation that is no equivalence, such
    as entailment judged by a model. Equal texts are not asked about.

    Parameters
    ----------
    same : whether the second answer says what the first one says (or follows from it).
    """
    distinct = list(dict.fromkeys(answers))
    group = list(range(len(distinct)))
    for j, later in enumerate(distinct):
        for i in range(j):
            if group[i] != group[j] and same(distinct[i], later) and same(later, distinct[i]):
                kept, gone = sorted((group[i], group[j]))
                group = [kept if one == gone else one for one in group]
    numbers = {old: new for new, old in enumerate(dict.fromkeys(group))}
    of = {answer: numbers[one] for answer, one in zip(distinct, group, strict=True)}
    return np.array([of[answer] for answer in answers], dtype=np.int64)


def semantic_entropy(classes: Int[np.ndarray, " n"], logprobs: Float[np.ndarray, " n"] | None = None) -> float | None:
    r"""Entropy of what is meant, in nats: :math:`-\sum_c P(c) \log P(c)` over classes of samples (2302.09664).

    0 where all samples mean the same, log n where no two do. Splitting classes never lowers it.

    Parameters
    ----------
    classes : of each sample, such as `equivalence_classes` gives.
    logprobs : of each sample as a whole. Where given, P(c) is the sum of the samples' probabilities, divided by that of
        all; otherwise the share of the samples.

    Returns
    -------
    None for fewer than two samples.

    Raises
    ------
    ValueError
        Numbers that differ, log-probabilities that are NaN or all minus infinity.
    """
    if logprobs is not None and logprobs.shape != classes.shape:
        raise ValueError(f"semantic_entropy: one log-probability a sample is needed, got {len(logprobs)}")
    if len(classes) < 2:
        return None
    weights = np.ones(len(classes))
    if logprobs is not None:
        if not np.isfinite(highest := logprobs.max()):
            raise ValueError("semantic_entropy: log-probabilities must not be NaN, nor all infinite")
        weights = np.exp(logprobs.astype(np.float64) - highest)
    _, member = np.unique(classes, return_inverse=True)
    shares = np.bincount(member, weights)
    shares = shares[shares > 0] / shares.sum()
    # A single class has a share of 1, up to rounding, and an entropy that is no less than 0.
    return max(0.0, -float((shares * np.log(shares)).sum()))


class Confidence(NamedTuple):
    """How likely a model held the tokens of its answer to be.

    Attributes
    ----------
    mean : log-probability a token, in nats.
    least : log-probability of the least likely token.
    perplexity : exp(-mean), from 1.
    """

    mean: float
    least: float
    perplexity: float


def token_confidence(logprobs: Sequence[float]) -> Confidence:
    """Confidence from the log-probabilities of the tokens of an answer.

    The end of an answer counts as one of them, as it does in `autodidact.lm.Score`.

    Raises
    ------
    ValueError
        No tokens.
    """
    if len(logprobs) == 0:
        raise ValueError("an answer without tokens has no confidence")
    mean = math.fsum(logprobs) / len(logprobs)
    return Confidence(mean, min(logprobs), float(np.exp(-np.float64(mean))))


def eigen_score(embeddings: Shaped[np.ndarray, "n d"], alpha: float = 1e-3) -> float | None:
    r"""Spread of the embeddings of n samples: mean log eigenvalue of their covariance (INSIDE, 2402.03744).

    :math:`\frac{1}{n} \log\det(\Sigma + \alpha I)` with :math:`\Sigma = Z J Z^T` (n x n), where J takes from each
    embedding the mean of its own d entries. As in the paper nothing is divided by d, so the scale of the embeddings
    counts: compare within one model and layer. Samples that agree give about log alpha.

    Parameters
    ----------
    embeddings : one of each sample.
    alpha : > 0, added to the eigenvalues.

    Returns
    -------
    None for fewer than two samples.

    Raises
    ------
    ValueError
        alpha <= 0, NaN or infinite embeddings.
    """
    if not alpha > 0:
        raise ValueError(f"alpha must be above 0, got {alpha}")
    if not np.isfinite(embeddings).all():
        raise ValueError("eigen_score: embeddings hold NaN or infinite values")
    if len(embeddings) < 2:
        return None
    z = embeddings.astype(np.float64)
    z = z - z.mean(1, keepdims=True)
    values = np.linalg.svd(z, compute_uv=False) ** 2
    # There are fewer singular values than samples where d < n; the other eigenvalues are 0.
    return float((np.log(values + alpha).sum() + (len(z) - len(values)) * math.log(alpha)) / len(z))


def js_divergence(p: Float[np.ndarray, "n c"], q: Float[np.ndarray, "n c"]) -> Float[np.ndarray, " n"]:
    """Jensen-Shannon divergence of distributions row by row, in nats, in [0, log 2]. It is symmetric.

    Raises
    ------
    ValueError
        Shapes that differ, rows that are no distributions.
    """
    from scipy.special import rel_entr

    if p.shape != q.shape:
        raise ValueError(f"js_divergence needs two arrays of one shape, got {p.shape} and {q.shape}")
    p, q = p.astype(np.float64), q.astype(np.float64)
    for given in (p, q):
        if not ((given >= 0).all() and np.allclose(given.sum(1), 1, atol=1e-5)):
            raise ValueError("js_divergence needs probabilities that sum to 1 in each row")
    middle = (p + q) / 2
    return np.asarray((rel_entr(p, middle) + rel_entr(q, middle)).sum(1) / 2)


def calibration_error(confidences: Float[np.ndarray, " n"], right: Bool[np.ndarray, " n"], bins: int = 10) -> float:
    r"""Expected calibration error, in [0, 1] (Naeini et al. 2015; Guo et al., 1706.04599, equation 3).

    :math:`\sum_b \frac{n_b}{n} |\mathrm{accuracy}_b - \mathrm{confidence}_b|` over bins of equal width. A bin holds its
    upper end, the first one 0 as well.

    Parameters
    ----------
    confidences : probability of the answer that was given, in [0, 1].
    right : whether it was right.
    bins : from 1.

    Raises
    ------
    ValueError
        Nothing to compare, lengths that differ, confidences outside [0, 1], bins < 1.
    """
    _check_scored("calibration_error", confidences, right)
    if not ((confidences >= 0) & (confidences <= 1)).all():
        raise ValueError("calibration_error: confidences must lie between 0 and 1")
    if bins < 1:
        raise ValueError(f"calibration_error needs a bin, got {bins}")
    said = confidences.astype(np.float64)
    inside = np.searchsorted(np.arange(1, bins) / bins, said, side="left")
    return float(np.abs(np.bincount(inside, right - said, bins)).sum() / len(said))


@dataclass(frozen=True)
class RiskCoverage:
    """What answering only the surest questions costs (selective prediction, 1705.08500).

    Attributes
    ----------
    coverage : k / n for k = 1..n, the share of questions that are answered.
    risk : mean error among the k surest; ties in the score are answered in random order, and this is the expectation.
    aurc : mean of the risk over all coverages. Less is better; a constant score has the error of all.
    """

    coverage: Float[np.ndarray, " n"]
    risk: Float[np.ndarray, " n"]
    aurc: float

    def risk_at(self, coverage: float) -> float:
        """Risk at the least coverage that is no less than the one asked for, in (0, 1]."""
        if not 0 < coverage <= 1:
            raise ValueError(f"coverage must be in (0, 1], got {coverage}")
        return float(self.risk[np.searchsorted(self.coverage, coverage, side="left")])


def risk_coverage(scores: Shaped[np.ndarray, " n"], errors: Shaped[np.ndarray, " n"]) -> RiskCoverage:
    """Risk against coverage where the answers with the highest scores are given first.

    Parameters
    ----------
    scores : confidence in each answer, on any scale.
    errors : of each answer: whether it was wrong, or by how much.

    Raises
    ------
    ValueError
        Nothing to compare, lengths that differ, NaN.
    """
    _check_scored("risk_coverage", scores, errors)
    _, tied, size = np.unique(-scores.astype(np.float64), return_inverse=True, return_counts=True)
    mean = np.bincount(tied, errors.astype(np.float64)) / size
    answered = np.arange(1, len(scores) + 1)
    risk = np.cumsum(np.repeat(mean, size)) / answered
    return RiskCoverage(answered / len(scores), risk, float(risk.mean()))


def auroc(scores: Shaped[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]) -> float:
    """Probability that a positive scores higher than a negative, ties counted half; 0.5 is chance.

    Raises
    ------
    ValueError
        Nothing to compare, lengths that differ, NaN, only positives or only negatives.
    """
    _check_scored("auroc", scores, positive)
    ones, zeros = scores[positive], np.sort(scores[~positive])
    if not len(ones) or not len(zeros):
        raise ValueError(f"auroc needs positives and negatives, got {len(ones)} and {len(zeros)}")
    below, up_to = (np.searchsorted(zeros, ones, side=side) for side in ("left", "right"))
    return float((below + up_to).sum() / 2 / len(ones) / len(zeros))


def _check_scored(name: str, scores: np.ndarray, outcome: np.ndarray) -> None:
    if scores.shape != outcome.shape or scores.ndim != 1 or len(scores) == 0:
        raise ValueError(
            f"{name} needs two equally long vectors that are not empty, got {scores.shape} and {outcome.shape}"
        )
    if np.isnan(scores.astype(np.float64)).any() or np.isnan(outcome.astype(np.float64)).any():
        raise ValueError(f"{name} got NaN")
