"""Which of several answers to keep: the one most agree on, or the one most like all others. Texts only, no model."""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

from autodidact.selection.stems import stem

WORDS = re.compile(r"[^\W_]+")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def vote(answers: Sequence[str], min_share: float = 0.0) -> str | None:
    """The most frequent answer; among equally frequent ones the shortest, then the one that came first.

    SELF-GUIDE (2407.12874) keeps an input only where its answer reaches a share of 0.3.

    Parameters
    ----------
    answers : of samples.
    min_share : in [0, 1]. A share equal to it suffices.

    Returns
    -------
    None where there is no answer, or none reaches the share.

    Raises
    ------
    ValueError
        A share outside [0, 1].
    """
    if not 0 <= min_share <= 1:
        raise ValueError(f"min_share must be in [0, 1], got {min_share}")
    if not answers:
        return None
    counts = Counter(answers)
    # Counter keeps the order of first occurrence, and min takes the first of equals.
    best = min(counts, key=lambda answer: (-counts[answer], len(answer)))
    return best if counts[best] / len(answers) >= min_share else None


def medoid(candidates: Sequence[str], similarity: Callable[[str, str], float], tau: float = 0.01) -> int | None:
    r"""Greedy consensus (Ensemble-Instruct, 2310.13961, algorithm 1): which candidate to keep, if any.

    Where two or more are exactly equal, the most frequent text wins, at its first occurrence. Otherwise with
    similarities S the candidate :math:`\arg\max_i \sum_{j \ne i} S_{ij}` is kept, provided that
    :math:`\min_{i<j} S_{ij} > \tau`. Ties go to the earlier candidate. The paper has three candidates; this is its rule
    for any number.

    The paper compares candidates in folded form: give them as `folded` made them, and take the original at the index
    that is returned. Two empty candidates are equal; leave empty ones out before.

    Parameters
    ----------
    candidates : two or more texts.
    similarity : of two texts, symmetric, such as `rouge_l`.
    tau : the least similar pair must be more similar than this. The paper's 0.01 only drops complete disagreement.

    Returns
    -------
    Index of the candidate; None where they disagree.

    Raises
    ------
    ValueError
        Fewer than two candidates.
    """
    if len(candidates) < 2:
        raise ValueError(f"a consensus needs two or more candidates, got {len(candidates)}")
    counts = Counter(candidates)
    text, most = counts.most_common(1)[0]
    if most > 1:
        return list(candidates).index(text)
    size = range(len(candidates))
    pairs = {(i, j): similarity(candidates[i], candidates[j]) for j in size for i in range(j)}
    if not min(pairs.values()) > tau:
        return None
    # fsum does not depend on the order of what it adds, so that rounding decides no tie.
    return max(size, key=lambda i: math.fsum(value for pair, value in pairs.items() if i in pair))


def rouge_l(a: str, b: str, *, stemmed: bool = False) -> float:
    """ROUGE-L F: how much of two texts is a common subsequence of words, in [0, 1] (Lin 2004).

    2 L / (|a| + |b|) with L the length of the longest common subsequence; 0 where either has no word. Words are runs of
    letters and digits in lower case. For English that is the value of the package rouge-score, which knows no letters
    but a to z.

    Parameters
    ----------
    stemmed : compare English stems of words of more than three letters, see `autodidact.selection.stems.stem`.
    """
    if stemmed:
        return overlap(*([stem(word) if len(word) > 3 else word for word in words(text)] for text in (a, b)))
    return overlap(words(a), words(b))


def words(text: str) -> list[str]:
    """Runs of letters and digits, in lower case."""
    return WORDS.findall(text.lower())


def folded(text: str) -> str:
    """Lower case, without ASCII punctuation, with single spaces: the form in which Ensemble-Instruct compares."""
    return " ".join(text.lower().translate(PUNCTUATION).split())


def overlap(a: Sequence[str], b: Sequence[str]) -> float:
    """ROUGE-L F of two texts that are cut into words already, see `rouge_l`."""
    return 2 * _common(a, b) / (len(a) + len(b)) if a and b else 0.0


def _common(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence.

    Bit i of `row` is 0 where the i-th column of the dynamic programme is one more than the column before, so that a
    whole row is updated by an addition (Hyyrö 2004). Pools of thousands of texts are compared in seconds.
    """
    where: dict[str, int] = {}
    for i, word in enumerate(a):
        where[word] = where.get(word, 0) | 1 << i
    full = (1 << len(a)) - 1
    row = full
    for word in b:
        matched = row & where.get(word, 0)
        row = (row + matched | row - matched) & full
    return len(a) - row.bit_count()
