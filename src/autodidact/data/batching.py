"""Which samples make up each batch: a pure function of source, size and seed, so that resuming needs no state.

Every strategy returns the whole epoch as a list of position arrays. All ranks compute the same plan; each takes its
share of every batch, so ranks are disjoint and the global batch keeps its guarantee.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from autodidact.data.source import Positions, Source

Plan = list[Positions]


class Batching(ABC):
    """A rule that cuts a source into batches.

    Attributes
    ----------
    sharded : whether several processes share each batch; otherwise every one of them gets the whole batch.
    """

    sharded: ClassVar[bool] = True

    @abstractmethod
    def plan(self, source: Source, size: int, seed: int) -> Plan:
        """Batches of one epoch, as positions in the source. The same arguments give the same plan."""

    def steps(self, source: Source, size: int) -> int:
        """Number of batches in an epoch."""
        return len(self.plan(source, size, 0))


@dataclass(frozen=True)
class RandomBatching(Batching):
    """Every sample once an epoch, in random order.

    Parameters
    ----------
    drop_last : leave out the incomplete batch at the end (contrastive losses want equal batches).
    """

    drop_last: bool = True

    def plan(self, source: Source, size: int, seed: int) -> Plan:
        _enough(len(source), size if self.drop_last else 1, source)
        order = np.random.default_rng(seed).permutation(len(source))
        return _cut(order, size, self.drop_last)

    def steps(self, source: Source, size: int) -> int:
        return len(source) // size if self.drop_last else -(-len(source) // size)


@dataclass(frozen=True)
class DistinctBatching(Batching):
    """No batch holds two samples with the same value of a field (a cluster, a recording).

    Sheets 60 (G-SimCLR, "guided" batches) and 12.

    Parameters
    ----------
    field : scalar integer field.
    fill : what happens once fewer than ``size`` values have samples left: "drop" ends the epoch (strict),
        "repeat" fills up from the values with most samples left, as evenly as possible.
    order : "shuffle" draws samples and batches anew each epoch; "paper" is the fixed order of the released code: rank
        inside the cluster first, then cluster; the same in every epoch.
    """

    field: str
    fill: Literal["drop", "repeat"] = "repeat"
    order: Literal["shuffle", "paper"] = "shuffle"

    def plan(self, source: Source, size: int, seed: int) -> Plan:
        groups = _groups(source, self.field)
        _enough(len(source), size, source)
        if self.fill == "drop" and len(groups) < size:
            raise ValueError(
                f"batches of {size} distinct values need as many values of '{self.field}'; there are {len(groups)}"
            )
        if self.order == "paper":
            return self._paper_order(groups, size)
        rng = np.random.default_rng(seed)
        queues = [rng.permutation(group) for group in groups]
        left = np.array([len(queue) for queue in queues])
        batches: Plan = []
        while left.sum() >= size:
            # The fullest groups first, ties at random, leaves the most groups alive for later batches.
            rank = np.lexsort((rng.random(len(left)), -left))
            take = np.zeros_like(left)
            alive = rank[left[rank] > 0]
            if len(alive) < size and self.fill == "drop":
                break
            while take.sum() < size:
                open_ = alive[take[alive] < left[alive]]
                take[open_[: size - take.sum()]] += 1
            batches.append(
                rng.permutation(np.concatenate([queues[g][left[g] - take[g] : left[g]] for g in np.flatnonzero(take)]))
            )
            left -= take
        return [batches[i] for i in rng.permutation(len(batches))]

    def _paper_order(self, groups: list[Positions], size: int) -> Plan:
        ranked = [(rank, g, pos) for g, group in enumerate(groups) for rank, pos in enumerate(group)]
        order = np.array([pos for _, _, pos in sorted(ranked)], dtype=np.int64)
        batches = _cut(order, size, drop_last=True)
        if self.fill == "repeat":
            return batches
        owner = {int(pos): g for g, group in enumerate(groups) for pos in group}
        return [b for b in batches if len({owner[int(p)] for p in b}) == len(b)]


@dataclass(frozen=True)
class SameBatching(Batching):
    """Every batch holds samples of one value of a field only (a cluster, a domain). Sheets 66, 14, 45."""

    field: str
    drop_last: bool = True

    def plan(self, source: Source, size: int, seed: int) -> Plan:
        rng = np.random.default_rng(seed)
        batches = [
            batch
            for group in _groups(source, self.field)
            for batch in _cut(rng.permutation(group), size, self.drop_last)
        ]
        if not batches:
            raise ValueError(f"no value of '{self.field}' has {size} samples; use a smaller batch size")
        return [batches[i] for i in rng.permutation(len(batches))]


@dataclass(frozen=True)
class WholeBatching(Batching):
    """All samples in every step, once an epoch (one graph, one small table). Sheets 46, 56."""

    sharded: ClassVar[bool] = False

    def plan(self, source: Source, size: int, seed: int) -> Plan:
        return [np.arange(len(source))]

    def steps(self, source: Source, size: int) -> int:
        return 1


@dataclass(frozen=True)
class BucketBatching(Batching):
    """Batches of samples of similar length, so that padding is small. Sheets 33, 53, 68.

    Parameters
    ----------
    field : scalar field with the length of each sample.
    pool : number of batches that are sorted together; larger pads less and shuffles less.
    budget : when given, a batch holds as many samples as fit ``budget`` padded elements instead of ``size``.
    """

    field: str
    pool: int = 50
    budget: int | None = None

    def plan(self, source: Source, size: int, seed: int) -> Plan:
        lengths = np.asarray(source.column(self.field))
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(source))
        batches: Plan = []
        for start in range(0, len(order), self.pool * size):
            part = order[start : start + self.pool * size]
            part = part[np.argsort(lengths[part], kind="stable")]
            batches += _cut(part, size, drop_last=False) if self.budget is None else self._packed(part, lengths)
        return [batches[i] for i in rng.permutation(len(batches))]

    def _packed(self, part: Positions, lengths: NDArray[Any]) -> Plan:
        assert self.budget is not None
        batches: Plan = []
        begin = 0
        for end in range(1, len(part) + 1):
            last = end == len(part)
            if last or lengths[part[end]] * (end + 1 - begin) > self.budget:
                batches.append(part[begin:end])
                begin = end
        return batches


@dataclass(frozen=True)
class EpisodeBatching(Batching):
    """Few-shot episodes: each batch holds `ways` values of a field with ``size // ways`` samples each. Sheet 47.

    Parameters
    ----------
    field : scalar integer field (class, source).
    ways : number of values in an episode.
    episodes : number of episodes in an epoch.
    """

    field: str
    ways: int = 5
    episodes: int = 100

    def plan(self, source: Source, size: int, seed: int) -> Plan:
        shots = size // self.ways
        groups = [group for group in _groups(source, self.field) if len(group) >= shots]
        if shots < 1 or len(groups) < self.ways:
            raise ValueError(
                f"episodes of {self.ways} values x {shots} samples need {self.ways} values of '{self.field}' with at "
                f"least {max(shots, 1)} samples each; {len(groups)} have them"
            )
        rng = np.random.default_rng(seed)
        return [
            np.concatenate(
                [rng.choice(groups[g], shots, replace=False) for g in rng.choice(len(groups), self.ways, replace=False)]
            )
            for _ in range(self.episodes)
        ]

    def steps(self, source: Source, size: int) -> int:
        return self.episodes


def _cut(order: Positions, size: int, drop_last: bool) -> Plan:
    stop = len(order) - len(order) % size if drop_last else len(order)
    return [order[start : start + size] for start in range(0, stop, size)]


def _groups(source: Source, field: str) -> list[Positions]:
    values = np.asarray(source.column(field))
    if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer):
        raise ValueError(
            f"batches by '{field}' need one integer per sample, got {values.dtype} of shape {values.shape}"
        )
    order = np.argsort(values, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(values[order])) + 1)


def _enough(rows: int, size: int, source: Source) -> None:
    if rows < size:
        raise ValueError(
            f"batch size {size} is larger than the data: '{source.name}' has {rows} samples; use --batch-size {rows} "
            "or less"
        )
