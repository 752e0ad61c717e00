"""What figures are worth group by group: the worst one, the gap, hits, neighbours, copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor


@dataclass(frozen=True)
class ByGroup:
    """The mean of a figure in each group.

    Attributes
    ----------
    means : group -> mean over its members, in the order of the names; none for a group without a member.
    counts : group -> members, 0 among them.
    few : groups with fewer members than asked for, or without one. They do not count for `worst` and `gap`.
    worst : least mean among the groups with enough members.
    gap : greatest minus least mean among them.
    """

    means: dict[str, float]
    counts: dict[str, int]
    few: tuple[str, ...]
    worst: float
    gap: float


def by_group(
    values: Shaped[np.ndarray, " n"], groups: Int[np.ndarray, " n"], names: Sequence[str], least: int = 1
) -> ByGroup:
    """Means of a figure by group.

    Parameters
    ----------
    values : of each sample: a number, or whether it was right.
    groups : of each sample, an index of `names`; samples whose group is unknown (-1) are left out.
    names : of the groups.
    least : members that a group needs to count for the worst and the gap.

    Raises
    ------
    ValueError : no group has enough members.
    """
    counts = {name: int((groups == code).sum()) for code, name in enumerate(names)}
    means = {
        name: float(np.asarray(values, dtype=np.float64)[groups == code].mean())
        for code, name in enumerate(names)
        if counts[name]
    }
    few = tuple(name for name, count in counts.items() if count < max(1, least))
    enough = [mean for name, mean in means.items() if name not in few]
    if not enough:
        said = ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"
        raise ValueError(f"no group has {least} members, so there is no worst one; members: {said}")
    return ByGroup(means, counts, few, min(enough), max(enough) - min(enough))


def hits(ranked: Int[np.ndarray, "n k"], truth: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Whether the true class of each sample is among those that are named for it."""
    return (ranked == truth[:, None]).any(axis=1)


def precision_at(
    neighbours: Int[np.ndarray, "n k"] | Int[Tensor, "n k"], labels: Int[np.ndarray, " n"], k: int
) -> Float[np.ndarray, " n"]:
    """Share of each sample's first k neighbours that carry its label.

    Parameters
    ----------
    neighbours : indices into `labels`, nearest first; a sample is not its own neighbour.
    labels : of all samples.
    """
    near = np.asarray(neighbours)[:, :k]
    if not 1 <= k <= near.shape[1]:
        raise ValueError(f"precision needs between 1 and the {near.shape[1]} neighbours that are known, got {k}")
    return np.asarray((labels[near] == labels[:, None]).mean(axis=1))


def reciprocal_ranks(
    queries: Float[np.ndarray, "q d"], bank: Float[np.ndarray, "b d"], right: Int[np.ndarray, " q"]
) -> Float[np.ndarray, " q"]:
    """1 / rank of the one right row for each query, by cosine among all rows of the bank.

    With a single right answer that is the average precision, and its mean the mAP of copy detection. Rows that are as
    near as the right one count half of their number before it.

    Parameters
    ----------
    queries, bank : embeddings.
    right : index into the bank of the row that each query is a copy of.
    """
    unit = bank / np.maximum(np.linalg.norm(bank, axis=1, keepdims=True), 1e-12)
    found = np.empty(len(queries))
    for start in range(0, len(queries), 512):
        part = queries[start : start + 512]
        part = part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-12)
        similar = part @ unit.T
        own = similar[np.arange(len(part)), right[start : start + 512]][:, None]
        # The right row is as near as itself.
        found[start : start + 512] = 1 + (similar > own).sum(1) + ((similar == own).sum(1) - 1) / 2
    return 1 / found
