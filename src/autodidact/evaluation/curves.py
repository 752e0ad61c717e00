"""Curves: lines over a common axis as plain numbers, which `report.figures.picture` draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Curves:
    """One panel of a picture.

    Attributes
    ----------
    title : what it shows.
    x_label, y_label : of the axes.
    lines : name -> points, as (x, y).
    log_x, log_y : logarithmic axes.
    beside : of a line that stands beside another, such as what a theory says of it, the name of that other: it is drawn
        dashed in its colour, and the legend leaves it out.
    """

    title: str
    x_label: str
    y_label: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    log_x: bool = False
    log_y: bool = False
    beside: Mapping[str, str] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """JSON-ready, with six significant digits."""
        lines = {name: [[_short(x), _short(y)] for x, y in points] for name, points in self.lines.items()}
        return {**vars(self), "lines": lines, "beside": dict(self.beside)}


def _short(value: float) -> float:
    return float(f"{value:.6g}")
