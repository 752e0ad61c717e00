"""SimCore's selection: the samples of a large pool that lie nearest to a small target set, to all parts of it alike.

Of each centroid only its nearest few in the pool are known at a time, so memory is O(k queue) beside the rows, never
O(n k). It knows nothing of images, models or files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from autodidact.measures.neighbours import nearest

_QUEUE = 4096


@dataclass(frozen=True)
class Coreset:
    """What was selected.

    Attributes
    ----------
    positions : rows of the pool, each once, in the order in which they were selected.
    rounds : the round in which each was, from 1.
    similarity : of each to the nearest centroid that asked for it.
    values : mean similarity of the centroids to what they asked for, round by round, the refused round included.
    ended : "budget" (all that was asked for), "unlike" (what is left resembles the target too little) or "pool"
        (nothing is left).
    """

    positions: Int[Tensor, " m"]
    rounds: Int[Tensor, " m"]
    similarity: Float[Tensor, " m"]
    values: tuple[float, ...]
    ended: Literal["budget", "unlike", "pool"]

    def __len__(self) -> int:
        return len(self.positions)


def select_by_rounds(
    centroids: Float[Tensor, "k d"],
    pool: Float[Tensor, "n d"],
    *,
    budget: int | None = None,
    stop: float | None = None,
    patience: int = 20,
    among: Bool[Tensor, " n"] | None = None,
    generator: torch.Generator,
) -> Coreset:
    """Greedy rounds of SimCore (Kim, Bae, Yun, 2303.11101, section 3.2 and algorithm 1).

    In every round each centroid asks for the row of the pool that is nearest to it by cosine and was not selected in an
    earlier round; a row that several ask for counts once. With v_r the mean similarity of what the centroids of round r
    asked for, the first round r >= p with ``v_r < stop * v_p`` is refused and ends the selection (p is `patience`).

    Parameters
    ----------
    centroids : tensor of shape (k, d)
        Of the target; only directions count.
    pool : tensor of shape (n, d)
    budget : int, optional
        Rows to select, 1 <= budget: exactly so many, unless the pool or `stop` ends it before; of a last round that is
        too large a random part is taken. None for no limit.
    stop : float, optional
        Share of the value of round p below which a round is refused, in (0, 1]. Paper: 0.95. None never refuses.
    patience : int
        p >= 1. Paper: 20; less where there are many centroids.
    among : bool tensor of shape (n,), optional
        The rows that may be selected; all by default.
    generator : torch.Generator
        Draws the part of the last round.

    Raises
    ------
    ValueError
        An empty pool or target, rows without a direction or with NaN, or numbers out of range.
    """
    check_directions("target", centroids)
    check_directions("pool", pool)
    if budget is not None and budget < 1:
        raise ValueError(f"the budget is at least 1 row, got {budget}")
    if (stop is not None and not 0 < stop <= 1) or patience < 1:
        raise ValueError(f"stop lies in (0, 1] and patience is at least 1, got {stop} and {patience}")
    free = torch.ones(len(pool), dtype=torch.bool, device=pool.device) if among is None else among.clone()
    most = int(free.sum()) if budget is None else min(budget, int(free.sum()))
    ended: Literal["budget", "unlike", "pool"] = "budget" if budget is not None and budget <= most else "pool"
    parts: list[tuple[Tensor, Tensor]] = []
    values: list[float] = []
    count = 0
    for asked, similarity in _rounds(centroids, pool, free):
        values.append(float(similarity.mean()))
        if stop is not None and len(values) >= patience and values[-1] < stop * values[patience - 1]:
            ended = "unlike"
            break
        new, best = _once(asked, similarity)
        if count + len(new) > most:
            kept = torch.randperm(len(new), generator=generator)[: most - count].sort().values.to(new.device)
            new, best = new[kept], best[kept]
        parts.append((new, best))
        free[new] = False
        count += len(new)
        if count == most:
            break
    sizes = torch.tensor([len(new) for new, _ in parts], dtype=torch.long)
    return Coreset(
        torch.cat([new for new, _ in parts]) if parts else torch.zeros(0, dtype=torch.long),
        torch.arange(1, len(parts) + 1).repeat_interleave(sizes),
        torch.cat([best for _, best in parts]) if parts else torch.zeros(0),
        tuple(values),
        ended,
    )


def _rounds(centroids: Tensor, pool: Tensor, free: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """What each centroid asks for, (k,) rows and similarities, round by round, while the caller marks what is taken."""
    k = len(centroids)
    every = torch.arange(k, device=pool.device)
    while left := int(free.sum()):
        similarity, queue = nearest(centroids, pool, min(left, len(pool), max(_QUEUE, 16 * k)), among=free)
        place = torch.zeros(k, dtype=torch.long, device=pool.device)
        while True:
            # A centroid moves past what others took; one at the end of its queue needs a new one.
            while (passed := ~free[queue[every, place]]).any():
                place += passed
                if int(place.max()) == queue.shape[1]:
                    break
            if int(place.max()) == queue.shape[1]:
                break
            yield queue[every, place], similarity[every, place]


def _once(asked: Tensor, similarity: Tensor) -> tuple[Tensor, Tensor]:
    """Each row once, with its largest similarity, the most similar first."""
    order = similarity.argsort(descending=True, stable=True)
    asked, similarity = asked[order], similarity[order]
    first = torch.ones_like(asked, dtype=torch.bool)
    by_row = asked.argsort(stable=True)
    first[by_row[1:]] = asked[by_row[1:]] != asked[by_row[:-1]]
    return asked[first], similarity[first]


def check_directions(name: str, rows: Float[Tensor, "n d"]) -> None:
    """Raise ValueError where there is no row, or one that has no direction."""
    if len(rows) == 0:
        raise ValueError(f"the {name} is empty")
    if not torch.isfinite(rows).all():
        raise ValueError(f"rows of the {name} hold NaN or infinite values")
    if (without := int((rows.square().sum(1) == 0).sum())) > 0:
        raise ValueError(f"{without} rows of the {name} are zero and point nowhere, so nothing resembles them")


def facility_location(similarity: Float[Tensor, "n k"], chosen: Int[Tensor, " m"]) -> Float[Tensor, ""]:
    """How well the chosen rows serve the k targets: the sum over these of the largest similarity of a chosen row.

    ``f(S) = sum_q max(0, max_(s in S) w(s, q))``: monotone and submodular, 0 for no row.
    """
    served = similarity[chosen].clamp(min=0)
    return served.max(0).values.sum() if len(chosen) else similarity.new_zeros(())


def greedy_facility_location(similarity: Float[Tensor, "n k"], budget: int) -> Int[Tensor, " m"]:
    """The rows that a greedy maximisation of `facility_location` adds one by one.

    Its value is at least 1 - 1/e of the best of `budget` rows (Nemhauser, Wolsey, Fisher, 1978). Once every target has
    its nearest row nothing more is gained, so it is no way to select more rows than there are targets; that is what the
    rounds of `select_by_rounds` are for.

    Raises
    ------
    ValueError : a budget outside 1..n.
    """
    if not 1 <= budget <= len(similarity):
        raise ValueError(f"a budget between 1 and the {len(similarity)} rows is needed, got {budget}")
    served = similarity.new_zeros(similarity.shape[1])
    chosen: list[int] = []
    for _ in range(budget):
        gain = (similarity - served).clamp(min=0).sum(1)
        gain[chosen] = -1
        chosen.append(int(gain.argmax()))
        served = torch.maximum(served, similarity[chosen[-1]])
    return torch.tensor(chosen)
