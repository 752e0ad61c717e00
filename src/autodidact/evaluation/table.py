"""Table: figures by arm, metric and seed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autodidact.catalog import unknown
from autodidact.measures import Interval, mean_interval, paired_interval
from autodidact.model.model import write_aside


class Table:
    """Figures by arm, metric and seed.

    A cell holds one number and is written once, so a table on disk can be gone on with: what `has` says is there need
    not be measured again. Arms and metrics keep the order in which they came.

    Parameters
    ----------
    about : JSON-ready facts that stand beside the figures (data, label budget, versions).
    """

    def __init__(self, about: Mapping[str, Any] | None = None) -> None:
        self.about: dict[str, Any] = dict(about or {})
        self._cells: dict[str, dict[str, dict[int, float]]] = {}

    def add(self, arm: str, metric: str, seed: int, value: float) -> None:
        """Write one figure.

        Raises
        ------
        ValueError : the value is not finite, or the cell is already written.
        """
        if not math.isfinite(value):
            raise ValueError(f"{arm}, {metric}, seed {seed}: {value} is not a figure")
        if self.has(arm, metric, seed):
            raise ValueError(f"{arm}, {metric}, seed {seed} is already in the table")
        self._cells.setdefault(arm, {}).setdefault(metric, {})[int(seed)] = float(value)

    def has(self, arm: str, metric: str, seed: int) -> bool:
        return seed in self._cells.get(arm, {}).get(metric, {})

    @property
    def arms(self) -> list[str]:
        return list(self._cells)

    @property
    def metrics(self) -> list[str]:
        return list(dict.fromkeys(metric for metrics in self._cells.values() for metric in metrics))

    def __len__(self) -> int:
        """Number of figures."""
        return sum(len(seeds) for metrics in self._cells.values() for seeds in metrics.values())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Table) and self._cells == other._cells and self.about == other.about

    __hash__ = None  # type: ignore[assignment]

    def seeds(self, arm: str, metric: str) -> list[int]:
        """Seeds of one arm and metric, ascending; empty where there is no figure."""
        if arm not in self._cells:
            raise unknown("arm", arm, self.arms)
        if metric not in self.metrics:
            raise unknown("metric", metric, self.metrics)
        return sorted(self._cells[arm].get(metric, {}))

    def values(self, arm: str, metric: str) -> list[float]:
        """Figures of one arm and metric by ascending seed; empty where there is none."""
        return [self._cells[arm][metric][seed] for seed in self.seeds(arm, metric)]

    def mean_interval(self, arm: str, metric: str) -> Interval:
        """Mean over the seeds and its 95 % interval by Student's t; the ends are infinite with one seed only."""
        values = self.values(arm, metric)
        if not values:
            raise ValueError(f"'{arm}' has no figure for '{metric}'")
        return mean_interval(values) if len(values) > 1 else _unbounded(values[0])

    def difference(self, a: str, b: str, metric: str, metric_b: str | None = None) -> Interval:
        """Mean of a - b over the seeds that both have, and its 95 % interval by Student's t on the differences; the
        ends are infinite with one seed only.

        Parameters
        ----------
        a, b : arms.
        metric : of both, or of `a` where `metric_b` is given.
        metric_b : metric of `b`, for comparing an arm's best protocol with another arm's.
        """
        metric_b = metric_b or metric
        shared = [seed for seed in self.seeds(a, metric) if self.has(b, metric_b, seed)]
        self.seeds(b, metric_b)
        if not shared:
            raise ValueError(f"'{a}' and '{b}' have no seed in common for '{metric}'")
        of_a = [self._cells[a][metric][seed] for seed in shared]
        of_b = [self._cells[b][metric_b][seed] for seed in shared]
        return paired_interval(of_a, of_b) if len(shared) > 1 else _unbounded(of_a[0] - of_b[0])

    def merge(self, other: Table) -> Table:
        """Take over the figures of another table.

        Raises
        ------
        ValueError : a cell holds different figures in the two.
        """
        for arm, metric, seed, value in other.rows():
            if not self.has(arm, metric, seed):
                self.add(arm, metric, seed, value)
            elif self._cells[arm][metric][seed] != value:
                raise ValueError(
                    f"{arm}, {metric}, seed {seed} is {self._cells[arm][metric][seed]} in one table and {value} in the "
                    "other"
                )
        self.about = {**other.about, **self.about}
        return self

    def rows(self) -> list[tuple[str, str, int, float]]:
        """All figures as (arm, metric, seed, value)."""
        return [
            (arm, metric, seed, value)
            for arm, metrics in self._cells.items()
            for metric, seeds in metrics.items()
            for seed, value in sorted(seeds.items())
        ]

    def plain(self) -> dict[str, Any]:
        """JSON-ready: ``about``, ``figures`` (arm -> metric -> seed -> value) and ``intervals`` (arm -> metric -> mean,
        low, high; the ends are null with one seed only)."""
        figures: dict[str, dict[str, dict[str, float]]] = {}
        for arm, metric, seed, value in self.rows():
            figures.setdefault(arm, {}).setdefault(metric, {})[str(seed)] = value
        intervals = {
            arm: {
                metric: {
                    name: end if math.isfinite(end) else None
                    for name, end in zip(("mean", "low", "high"), self.mean_interval(arm, metric), strict=True)
                }
                for metric in metrics
            }
            for arm, metrics in figures.items()
        }
        return {"about": self.about, "figures": figures, "intervals": intervals}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Table:
        """Read back what `plain` wrote."""
        table = cls(plain.get("about", {}))
        for arm, metrics in plain["figures"].items():
            for metric, seeds in metrics.items():
                for seed, value in seeds.items():
                    table.add(arm, metric, int(seed), value)
        return table

    def save(self, path: str | Path) -> Path:
        """Write as JSON, never seen half-written."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_aside(path, (json.dumps(self.plain(), indent=1, ensure_ascii=False) + "\n").encode())
        return path

    @classmethod
    def load(cls, path: str | Path) -> Table:
        """Read a table that `save` wrote."""
        path = Path(path)
        if not path.exists():
            raise FileNotFoundError(f"no such table: {path}")
        try:
            return cls.from_plain(json.loads(path.read_text()))
        except (ValueError, KeyError, AttributeError, TypeError) as broken:
            raise ValueError(f"{path} is not a table of figures: {broken}") from broken

    def _grid(self, digits: int) -> list[list[str]]:
        header = ["", *self.metrics]
        return [header, *([arm, *(self._cell(arm, metric, digits) for metric in self.metrics)] for arm in self.arms)]

    def _cell(self, arm: str, metric: str, digits: int) -> str:
        if not self._cells[arm].get(metric):
            return "-"
        mean, _, high = self.mean_interval(arm, metric)
        half = f" ± {high - mean:.{digits}f}" if math.isfinite(high) else ""
        return f"{mean:.{digits}f}{half}"

    def text(self, digits: int = 3, *, turned: bool = False) -> str:
        """Aligned plain text: mean ± half of the 95 % interval, "-" where there is no figure. `turned` puts the metrics
        below each other, and the arms side by side."""
        grid = self._grid(digits)
        return "\n".join(_aligned([list(row) for row in zip(*grid, strict=True)] if turned else grid))

    def markdown(self, digits: int = 3) -> str:
        """The same as a Markdown table."""
        header, *rows = self._grid(digits)
        widths = _widths([header, *rows])
        rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
        return "\n".join(f"| {' | '.join(_pad(row, widths))} |" for row in (header, rule, *rows))

    __str__ = text


def _unbounded(value: float) -> Interval:
    """One figure says nothing about its spread."""
    return Interval(value, -math.inf, math.inf)


def _widths(grid: Sequence[Sequence[str]]) -> list[int]:
    return [max(3, *(len(row[column]) for row in grid)) for column in range(len(grid[0]))]


def _pad(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        cell.ljust(width) if i == 0 else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]


def _aligned(grid: Sequence[Sequence[str]]) -> list[str]:
    widths = _widths(grid)
    return ["  ".join(_pad(row, widths)).rstrip() for row in grid]
