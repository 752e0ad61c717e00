"""Which samples make up each batch: a pure function of source, size and seed, so that resuming needs no state.

Every strategy returns the whole epoch as a list of position arrays. All ranks compute the same plan; each takes its
share of every batch, so ranks are disjoint and the global batch keeps its guarantee. Where a strategy goes by the
values of a field, a negative value means unknown.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from autodidact.catalog.nearest import unknown
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
        """Batches of one epoch, as positions in the source. The same arguments give the same plan.

        Raises
        ------
        ValueError
            The source gives no batch of this size.
        """

    def steps(self, source: Source, size: int) -> int:
        """Number of batches in an epoch (of seed 0, where it depends on the seed)."""
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
        _enough(len(source), size if self.drop_last else min(1, size), source)
        order = np.random.default_rng(seed).permutation(len(source))
        return _cut(order, size, self.drop_last)

    def steps(self, source: Source, size: int) -> int:
        _enough(len(source), size if self.drop_last else min(1, size), source)
        return len(source) // size if self.drop_last else -(-len(source) // size)


@dataclass(frozen=True)
class DistinctBatching(Batching):
    """No batch holds two samples with the same value of a field (a cluster, a recording), as far as that is possible.

    Sheets 60 (G-SimCLR, arXiv 2009.12007, section 3.2: one image of each cluster a batch) and 12. Samples of one value
    are laid side by side and dealt out in turn to the b batches of the epoch, so a value with at most b samples never
    meets itself, and one with n > b samples is at most ceil(n / b) times in a batch, which is the least possible.
    Samples of unknown value count as all different.

    How much this removes is limited by design: with G balanced classes and K pure clusters the share of same-class
    pairs in a batch falls from about 1 / G to (K / G - 1) / (K - 1). It is large only where a cluster is a group of
    near duplicates.

    Parameters
    ----------
    field : scalar integer field.
    fill : "drop": a strict epoch, with the largest b for which ``sum(min(n_v, b)) >= b * size``; what values have
        beyond b samples is left out, anew each epoch. "repeat": an epoch of all samples, ``b = n // size``, in which
        values with more than b samples meet themselves.
    order : "shuffle" draws samples and batches anew each epoch; "paper" is the fixed order of the released code: rank
        inside the cluster first, then cluster; the same in every epoch. Later batches then hold the large clusters
        only, and "drop" leaves out every batch that holds a value twice.
    """

    field: str
    fill: Literal["drop", "repeat"] = "repeat"
    order: Literal["shuffle", "paper"] = "shuffle"

    def __post_init__(self) -> None:
        for what, value, valid in (
            ("fill", self.fill, ("drop", "repeat")),
            ("order", self.order, ("shuffle", "paper")),
        ):
            if value not in valid:
                raise unknown(what, value, valid)

    def plan(self, source: Source, size: int, seed: int) -> Plan:
        groups = self._values(source, size)
        if self.order == "paper":
            return self._paper_order(groups, size)
        rng = np.random.default_rng(seed)
        counts = np.array([len(group) for group in groups])
        batches = self._batches(counts, size)
        most = batches if self.fill == "drop" else int(counts.max())
        dealt = np.concatenate([rng.permutation(groups[g])[:most] for g in rng.permutation(len(groups))])
        # Leaving out any of the samples keeps the others of a value side by side.
        spare = rng.choice(len(dealt), len(dealt) - batches * size, replace=False)
        rows = np.delete(dealt, spare).reshape(size, batches)
        return [rng.permutation(rows[:, b]) for b in rng.permutation(batches)]

    def steps(self, source: Source, size: int) -> int:
        if self.order == "paper":
            return super().steps(source, size)
        return self._batches(np.array([len(group) for group in self._values(source, size)]), size)

    def _values(self, source: Source, size: int) -> list[Positions]:
        groups = _groups(source, self.field, alone=True)
        _enough(len(source), size, source)
        if self.fill == "drop" and len(groups) < size:
            raise ValueError(
                f"batches of {size} distinct values need as many values of '{self.field}'; there are {len(groups)}: "
                f'--batch-size {len(groups)} or less, or fill="repeat"'
            )
        return groups

    def _batches(self, counts: NDArray[Any], size: int) -> int:
        if self.fill == "repeat":
            return int(counts.sum()) // size
        low, high = 0, int(counts.sum()) // size
        # b batches are possible exactly if b - 1 are, so the largest b is found by halving.
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if np.minimum(counts, middle).sum() >= middle * size else (low, middle - 1)
        return low

    def _paper_order(self, groups: list[Positions], size: int) -> Plan:
        owner = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
        rank = np.concatenate([np.arange(len(group)) for group in groups])
        order = np.lexsort((owner, rank))
        batches = _cut(order, size, drop_last=True)
        positions = np.concatenate(groups)
        return [positions[b] for b in batches if self.fill == "repeat" or len(np.unique(owner[b])) == size]


@dataclass(frozen=True)
class SameBatching(Batching):
    """Every batch holds samples of one value of a field only (a cluster, a domain). Sheets 66, 14, 45.

    Samples of unknown value are left out.
    """

    field: str
    drop_last: bool = True

    def plan(self, source: Source, size: int, seed: int) -> Plan:
        _enough(len(source), min(1, size), source)
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
class ReplayBatching(Batching):
    """Every new sample once an epoch, in batches of which a share is drawn from earlier samples (arXiv 2503.02844).

    Parameters
    ----------
    new : how many samples are new; they come first in the source, and all others are earlier ones.
    share : of each batch that is earlier samples, in (0, 1); rounded to whole samples, at least one. Earlier samples
        come in random order, each once before any comes again.
    """

    new: int
    share: float

    def __post_init__(self) -> None:
        if self.new < 1 or not 0 < self.share < 1:
            raise ValueError(f"new must be at least 1 and share lie in (0, 1), got {self.new} and {self.share}")

    def plan(self, source: Source, size: int, seed: int) -> Plan:
        count, own = len(source) - self.new, self._own(size)
        if count < 1:
            raise ValueError(f"'{source.name}' has {len(source)} samples, none beside the {self.new} new ones")
        _enough(self.new, own, source)
        rng = np.random.default_rng(seed)
        batches = _cut(rng.permutation(self.new), own, drop_last=True)
        laps = -(-len(batches) * (size - own) // count)
        earlier = self.new + np.concatenate([rng.permutation(count) for _ in range(laps)])
        return [
            rng.permutation(np.concatenate([batch, again]))
            for batch, again in zip(batches, _cut(earlier, size - own, drop_last=True), strict=False)
        ]

    def steps(self, source: Source, size: int) -> int:
        _enough(self.new, self._own(size), source)
        return self.new // self._own(size)

    def _own(self, size: int) -> int:
        own = size - max(1, round(self.share * size))
        if own < 1:
            raise ValueError(f"a batch of {size} with a share of {self.share} earlier samples has no new one")
        return own


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
    budget : when given, a batch holds as many samples as fit ``budget`` padded elements instead of ``size``; a sample
        longer than that is a batch of its own. The number of batches then varies by epoch.
    """

    field: str
    pool: int = 50
    budget: int | None = None

    def plan(self, source: Source, size: int, seed: int) -> Plan:
        lengths = np.asarray(source.column(self.field))
        _enough(len(source), min(1, size), source)
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


def collision_share(plan: Plan, values: NDArray[np.integer[Any]]) -> float:
    """Share of the pairs inside batches whose two samples have the same value, in [0, 1].

    Parameters
    ----------
    plan : batches as positions.
    values : (n,) integers by position: clusters, classes, sources. Unknown (negative) ones equal nothing.

    Returns
    -------
    float
        NaN where no batch holds a pair.
    """
    pairs = collisions = 0
    for batch in plan:
        held = np.asarray(values)[batch]
        _, counts = np.unique(held[held >= 0], return_counts=True)
        pairs += len(batch) * (len(batch) - 1) // 2
        collisions += int((counts * (counts - 1) // 2).sum())
    return collisions / pairs if pairs else float("nan")


def _cut(order: Positions, size: int, drop_last: bool) -> Plan:
    stop = len(order) - len(order) % size if drop_last else len(order)
    return [order[start : start + size] for start in range(0, stop, size)]


def _groups(source: Source, field: str, alone: bool = False) -> list[Positions]:
    """Positions by value, ascending; samples of unknown value each on their own, or left out."""
    values = np.asarray(source.column(field))
    if values.shape != (len(source),) or not np.issubdtype(values.dtype, np.integer):
        raise ValueError(
            f"batches by '{field}' need one integer for each of {len(source)} samples, got {values.dtype} of shape "
            f"{values.shape}"
        )
    order = np.argsort(values, kind="stable")
    order, strange = order[values[order] >= 0], order[values[order] < 0]
    known = np.split(order, np.flatnonzero(np.diff(values[order])) + 1) if len(order) else []
    return known + [strange[i : i + 1] for i in range(len(strange))] if alone else known


def _enough(rows: int, size: int, source: Source) -> None:
    if size < 1:
        raise ValueError(f"a batch holds at least 1 sample, got {size}")
    if rows == 0:
        raise ValueError(f"'{source.name}' has no sample")
    if rows < size:
        raise ValueError(
            f"batch size {size} is larger than the data: '{source.name}' has {rows} samples; use --batch-size {rows} "
            "or less"
        )
