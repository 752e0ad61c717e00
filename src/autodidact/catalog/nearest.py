"""Errors that name the nearest valid choice."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def unknown(what: str, given: str, valid: Iterable[str]) -> ValueError:
    """The error for a name that is not among the valid ones."""
    names = sorted(valid)
    close = get_close_matches(given, names, n=1, cutoff=0.4)
    hint = f"; did you mean '{close[0]}'?" if close else ""
    return ValueError(f"unknown {what} '{given}'{hint} (valid: {', '.join(names)})")
