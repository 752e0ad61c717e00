"""HTML from values: everything that comes from data is escaped here, and made visible where it would not be."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Iterable, Sequence

LONGEST = 80

# Control, format, surrogate, private-use and unassigned characters, line and paragraph separators.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_UNITS = (("days", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def visible(value: object, longest: int = LONGEST) -> str:
    """Text as a person can read it on one line.

    Control and format characters (newlines, bidirectional overrides) and undecodable bytes are written as escapes; what
    is longer than `longest` characters loses its middle.
    """
    shown = "".join(
        c.encode("unicode_escape").decode("ascii") if unicodedata.category(c) in _HIDDEN else c for c in str(value)
    )
    if len(shown) <= longest:
        return shown
    head = (longest - 1) // 2
    return f"{shown[:head]}…{shown[len(shown) - (longest - 1 - head) :]}"


def text(value: object, longest: int = LONGEST) -> str:
    """`visible`, escaped for HTML content and attribute values."""
    return html.escape(visible(value, longest))


def paragraph(sentence: str, kind: str = "") -> str:
    """A paragraph of plain text, which may quote data; it is not cut."""
    marked = f' class="{kind}"' if kind else ""
    return f"<p{marked}>{text(sentence, longest=2_000)}</p>"


def section(anchor: str, title: str, *parts: str, lead: str = "") -> str:
    """A section of the page from parts in HTML, nothing where all parts are empty; `lead` says what to look for."""
    inside = "".join(parts)
    if not inside:
        return ""
    said = paragraph(lead, "lead") if lead else ""
    return f'<section id="{anchor}"><h2>{text(title)}</h2>{said}{inside}</section>'


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, label: str, kind: str = "") -> str:
    """A table in a box of its own that scrolls sideways, and can be reached by keyboard for that.

    Parameters
    ----------
    header : names of the columns, HTML; may be empty.
    rows : cells, HTML; the first one of a row names the row.
    label : what the table is, for those who cannot see it.
    kind : CSS class.
    """
    top = "".join(f'<th scope="col">{cell}</th>' for cell in header)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>{"".join(f"<td>{cell}</td>" for cell in row[1:])}</tr>' for row in rows
    )
    head = f"<thead><tr>{top}</tr></thead>" if header else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(label)}">'
        f'<table class="{kind}">{head}<tbody>{body}</tbody></table></div>'
    )


def fold(title: str, inside: str) -> str:
    """A part in HTML that is folded until it is asked for."""
    return f"<details><summary>{text(title)}</summary>{inside}</details>"


def number(value: float) -> str:
    """A figure with three significant digits, with an exponent only where it is very large or small."""
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:.1e}"


def duration(seconds: float) -> str:
    """Seconds in words: "4.2 s", "42 s", "3 min 5 s", "2 h 10 min", "1 day 4 h"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    rest, parts = round(seconds), []
    for name, size in _UNITS:
        amount, rest = divmod(rest, size)
        if amount:
            parts.append(f"{amount} {'day' if name == 'days' and amount == 1 else name}")
    return " ".join(parts[:2])
