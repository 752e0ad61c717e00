"""Errors that name the nearest valid choice."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

FEW = 16


def unknown(what: str, given: str, valid: Iterable[str]) -> ValueError:
    """The error for a name that is not among the valid ones; a long list of them is shown by its nearest only."""
    names = sorted(valid)
    close = nearest(given, names)
    hint = f"; did you mean '{close}'?" if close else ""
    if len(names) > FEW and close:
        return ValueError(f"unknown {what} '{given}'{hint} ({len(names)} are valid)")
    return ValueError(f"unknown {what} '{given}'{hint} (valid: {', '.join(names)})")


def nearest(given: str, names: Iterable[str]) -> str:
    """The name that looks most like what was given; empty where none does."""
    close = get_close_matches(given, list(names), n=1, cutoff=0.4)
    return close[0] if close else ""
