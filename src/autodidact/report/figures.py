"""Figures as SVG that lies in the page itself: text stays text, and colours follow the page's light or dark scheme."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from autodidact.evaluation.curves import Curves
from autodidact.report.markup import number, text, visible

# What is drawn in these colours takes the page's colour of that name.
INK, MUTED, LINE, ACCENT, SECOND = "#010203", "#040506", "#070809", "#0a0b0c", "#0d0e0f"
_VARIABLES = {INK: "--ink", MUTED: "--muted", LINE: "--line", ACCENT: "--accent", SECOND: "--second"}

# Those of the light page, for pictures that stand alone.
_LIGHT = {"--ink": "#1b1f24", "--muted": "#5c6570", "--line": "#e2e5e8", "--accent": "#2455c3", "--second": "#c2571a"}

# One unit of an SVG is one pixel of the page at its natural width.
_DOTS = 72
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "autodidact",
    "font.size": 11,
    "font.family": "sans-serif",
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.use_mathtext": False,
    "axes.unicode_minus": True,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
}


@FuncFormatter
def _plain(value: float, _: int | None) -> str:
    return number(round(value, 12)).replace("-", "\u2212")


@dataclass
class Line:
    """One line of a chart: points, a name for the reader where there are several, and how it is drawn. A line beside
    another takes its colour and stays out of the legend."""

    x: Sequence[float]
    y: Sequence[float]
    name: str = ""
    dashed: bool = False
    beside: str = ""


@dataclass
class Chart:
    """Lines over a common axis.

    Attributes
    ----------
    lines : the first one is drawn in the accent colour.
    x_label, y_label : of the axes.
    log, log_x : logarithmic y axis, logarithmic x axis.
    marks : x position -> what is to be said there, as a vertical line.
    """

    lines: Sequence[Line]
    x_label: str
    y_label: str
    log: bool = False
    log_x: bool = False
    marks: Mapping[float, str] = field(default_factory=dict)


def chart(of: Chart, key: str, description: str, size: tuple[int, int] = (352, 210)) -> str:
    """A line chart as SVG.

    Parameters
    ----------
    key : unique on the page; no other figure's definitions are mixed up with this one's.
    description : for those who cannot see it.
    size : width and height in pixels.
    """
    with _figure(size) as (figure, axes):
        own = [line for line in of.lines if not line.beside]
        hues = (ACCENT, SECOND, MUTED) if len(own) <= 3 else HUES
        colours = {line.name: hues[index % len(hues)] for index, line in enumerate(own)}
        for line in of.lines:
            colour = colours[line.beside or line.name]
            (drawn,) = axes.plot(line.x, line.y, color=colour, label="_" if line.beside else line.name)
            if line.dashed:
                drawn.set_linestyle("--")
            if len(line.x) < 3:
                drawn.set_marker("o")
        for where, said in of.marks.items():
            axes.axvline(where, color=SECOND, linewidth=1.2, linestyle="--")
            left = where > 0.5 * max(line.x[-1] for line in of.lines)
            axes.annotate(
                said,
                (where, 1),
                (-6 if left else 6, -4),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                va="top",
                ha="right" if left else "left",
            )
        if of.log:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(_plain)
            axes.yaxis.set_minor_formatter(NullFormatter())
        else:
            axes.yaxis.set_major_locator(MaxNLocator(5))
            axes.yaxis.set_major_formatter(_plain)
        if of.log_x:
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())
        else:
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
        axes.xaxis.set_major_formatter(_plain)
        axes.margins(x=0.02, y=0.1)
        axes.set_xlabel(of.x_label)
        axes.set_ylabel(of.y_label)
        if len(own) > 1:
            axes.legend(frameon=False, labelcolor=INK, loc="best", handlelength=1.4, borderaxespad=0.2)
        return _svg(figure, key, description)


def picture(panels: Sequence[Curves], description: str, size: tuple[int, int] = (440, 260)) -> str:
    """Panels beside one another as an SVG that stands alone, in light colours on white.

    Parameters
    ----------
    panels : at least one.
    description : for those who cannot see it.
    size : width and height of a panel in pixels.
    """
    width, height = size
    parts = []
    for number_, panel in enumerate(panels):
        lines = [
            Line([x for x, _ in at], [y for _, y in at], name, name in panel.beside, panel.beside.get(name, ""))
            for name, at in panel.lines.items()
        ]
        drawn = chart(Chart(lines, panel.x_label, panel.y_label, panel.log_y, panel.log_x), f"p{number_}", "", size)
        left = number_ * width
        parts.append(
            f'<text x="{left + 8}" y="16" font-weight="bold" fill="var(--ink)">{text(panel.title)}</text>'
            + drawn.replace("<svg ", f'<svg x="{left}" y="24" ', 1)
        )
    whole = (len(panels) * width, height + 24)
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {whole[0]} {whole[1]}" width="{whole[0]}" height="{whole[1]}" font-family="sans-serif" '
        f'font-size="11" role="img" aria-label="{text(description, 400)}">'
        f'<rect width="100%" height="100%" fill="#ffffff"/>{"".join(parts)}</svg>\n'
    )
    for variable, colour in _LIGHT.items():
        svg = svg.replace(f"var({variable})", colour)
    return svg


# Ten hues that stay apart on white and on near-black, also for the common kinds of colour blindness as far as ten can.
HUES = ("#4477aa", "#ee7733", "#228833", "#cc3377", "#8866cc", "#aa8800", "#22aacc", "#dd5544", "#779933", "#99777f")
OTHER = "#8a8f98"


def scatter(
    points: Float[np.ndarray, "n 2"],
    key: str,
    description: str,
    *,
    groups: Int[np.ndarray, " n"] | None = None,
    names: Sequence[str] = (),
    values: Float[np.ndarray, " n"] | None = None,
    labels: tuple[str, str] = ("", ""),
    size: tuple[int, int] = (360, 320),
) -> str:
    """A map of points as SVG; the points themselves are one picture inside it.

    Parameters
    ----------
    points : positions.
    groups : index into `names` of each point, -1 for none; decides the colour, and the name is written over the middle
        of each group.
    values : a number of each point, as colour, instead of groups.
    labels : of the two axes; without them the map has no axes.
    """
    with _figure(size) as (figure, axes):
        radius = float(np.clip(14_000 / max(1, len(points)), 6, 36))
        # Groups are drawn in a mixed order, so that none lies on top of all others.
        order = np.random.default_rng(0).permutation(len(points))
        if values is not None:
            shown = axes.scatter(points[order, 0], points[order, 1], c=values[order], cmap="viridis")
            bar = figure.colorbar(shown, ax=axes, shrink=0.6, pad=0.02)
            bar.outline.set_visible(False)
        else:
            colours = np.array([*(HUES[i % len(HUES)] for i in range(len(names))), OTHER])
            of_each = colours[groups[order]] if groups is not None else HUES[0]
            shown = axes.scatter(points[order, 0], points[order, 1], c=of_each)
        shown.set(sizes=[radius], linewidths=0, alpha=0.75, rasterized=True)
        if groups is not None:
            for index, name in enumerate(names):
                members = points[groups == index]
                if len(members):
                    x, y = _middle(members)
                    axes.text(x, y, visible(name, 14), ha="center", va="center", fontweight="bold")
        axes.grid(False)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        for side in axes.spines.values():
            side.set_visible(False)
        return _svg(figure, key, description, dots_per_inch=3 * _DOTS)


def _middle(members: Float[np.ndarray, "m 2"]) -> Float[np.ndarray, " 2"]:
    """The member in whose neighbourhood most others are: a group of two islands gets its name on one of them."""
    some = members[np.linspace(0, len(members) - 1, min(len(members), 300)).astype(int)]
    distances = np.linalg.norm(some[:, None] - some[None], axis=2)
    near = np.median(distances) / 3 + 1e-12
    return some[np.exp(-((distances / near) ** 2)).sum(1).argmax()]


@contextmanager
def _figure(size: tuple[int, int]) -> Iterator[tuple[Figure, Axes]]:
    """A figure of a size in pixels, with the page's style while it is drawn."""
    with rc_context(_STYLE), warnings.catch_warnings():
        # The page's font has the glyphs that the measuring font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=(size[0] / _DOTS, size[1] / _DOTS), layout="constrained")
        FigureCanvasSVG(figure)
        yield figure, figure.add_subplot()


def _svg(figure: Figure, key: str, description: str, dots_per_inch: int = _DOTS) -> str:
    sink = io.StringIO()
    figure.savefig(sink, format="svg", transparent=True, dpi=dots_per_inch, metadata={"Date": None})
    drawn = sink.getvalue()
    width, height = (figure.get_size_inches() * _DOTS).round().astype(int)
    opening = (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{text(description, 400)}">'
    )
    drawn = re.sub(r"^.*?<svg\b[^>]*>", lambda _: opening, drawn, count=1, flags=re.DOTALL)
    # Metadata names outside addresses, and the style sheet would be the whole page's.
    drawn = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r"font-family: [^;\"]*;? ?| transform=\"rotate\(-?0 [^\"]*\"", "", drawn)
    # Only ids that something refers to stay, and they become unique in the page.
    named = set(re.findall(r"(?:url\(|href=\")#([^)\"]+)", drawn))
    drawn = re.sub(r' id="([^"]*)"', lambda found: f' id="{key}-{found[1]}"' if found[1] in named else "", drawn)
    drawn = drawn.replace("url(#", f"url(#{key}-").replace('href="#', f'href="#{key}-')
    for colour, variable in _VARIABLES.items():
        drawn = drawn.replace(colour, f"var({variable})")
    return re.sub(r">\s+<", "><", drawn).strip()
