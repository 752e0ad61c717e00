"""Tables for a terminal: figures with their intervals, and what the differences say."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autodidact.evaluation.table import Table
    from autodidact.measures import Interval


def print_table(table: Table, title: str) -> None:
    """The table under a title that says what its figures are; turned where it is too wide for the terminal."""
    print(title)
    shown = table.text()
    if max(map(len, shown.splitlines()), default=0) > shutil.get_terminal_size((120, 24)).columns:
        shown = table.text(turned=len(table.metrics) > len(table.arms))
    print(shown)


def print_differences(
    table: Table, pairs: Iterable[tuple[str, str]], comparable: Callable[[Table, str, str, str], bool] | None = None
) -> None:
    """Paired differences of arms (first - second), metric by metric, with intervals; of the metrics that are comparable
    (table, first, second, metric), else of all that both arms have."""
    comparable = comparable or (lambda t, a, b, metric: bool(set(t.seeds(a, metric)) & set(t.seeds(b, metric))))
    shown = [
        (f"{a} - {b}", metric, table.difference(a, b, metric))
        for a, b in pairs
        for metric in table.metrics
        if metric != "seconds" and comparable(table, a, b, metric)
    ]
    if not shown:
        return
    print("\npaired differences with 95 % intervals, * where the interval excludes 0:")
    widths = [max(len(row[i]) for row in shown) for i in (0, 1)]
    for pair, metric, difference in shown:
        print(f"  {pair:<{widths[0]}}  {metric:<{widths[1]}}  {interval(difference)}")


def interval(of: Interval, digits: int = 3) -> str:
    """Mean and interval, with what it decides."""
    if not math.isfinite(of.low):
        return f"{of.mean:+.{digits}f} (one seed: no interval)"
    decided = "" if of.low <= 0 <= of.high else "  *"
    return f"{of.mean:+.{digits}f} [{of.low:+.{digits}f}, {of.high:+.{digits}f}]{decided}"
