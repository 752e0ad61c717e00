"""All cards, read from the method files as text: nothing is imported, so the list answers in milliseconds."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from autodidact.catalog.card import Card
from autodidact.catalog.nearest import unknown
from autodidact.catalog.signature import ROOT, Option, options_of

ROOMS = ("methods", "recipes", "encoders", "measures", "schedules", "compare")
_OPENING = "CARD = Card("


@cache
def cards() -> dict[str, Card]:
    """Every card by name, in the order of the papers' numbers, baselines first."""
    found = [card for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")) for card in _cards_of(path)]
    return {card.name: card for card in sorted(found, key=lambda card: (card.number, card.name))}


def _cards_of(path: Path) -> list[Card]:
    module = ".".join(("autodidact", *path.relative_to(ROOT).with_suffix("").parts))
    return [Card(module=module, **fields) for fields in literals(path.read_text())]


def literals(text: str) -> list[dict[str, Any]]:
    """Keyword arguments of every ``CARD = Card(...)`` (or ``CARD_X = Card(...)``) at the start of a line of `text`."""
    lines = text.splitlines()
    found = []
    for number, line in enumerate(lines):
        if not (line.startswith("CARD") and line.rstrip().endswith(_OPENING.removeprefix("CARD"))):
            continue
        end = next(i for i in range(number, len(lines)) if lines[i].startswith(")"))
        call = ast.parse("\n".join(["Card(", *lines[number + 1 : end + 1]]), mode="eval").body
        assert isinstance(call, ast.Call)
        found.append({str(k.arg): ast.literal_eval(k.value) for k in call.keywords})
    return found


def card(name: str) -> Card:
    """The card of a name; an unknown one raises ValueError with the nearest."""
    if name not in cards():
        raise unknown("method", name, cards())
    return cards()[name]


def trained(name: str) -> Card:
    """The card of a method or recipe; what is something else raises ValueError that says how it is used."""
    found = card(name)
    if found.kind not in ("method", "recipe"):
        how = {
            "encoder": f"; any method trains it: --encoder small:{name}",
            "suite": f"; its methods are compared: autodidact compare --methods {name}",
        }.get(found.kind, "")
        raise ValueError(f"'{name}' is of kind {found.kind}, not something to pretrain with{how}")
    return found


def suites(names: Iterable[str]) -> list[Card]:
    """The cards of the suites among some names."""
    return [found for name in names if (found := cards().get(name)) is not None and found.kind == "suite"]


def members(names: Sequence[str]) -> list[str]:
    """Names in which every suite is replaced by its members; a member that was named before stays where it is."""
    within = {suite.name: suite.members for suite in suites(names)}
    found: list[str] = []
    for name in names:
        found += [each for each in within.get(name, (name,)) if name not in within or each not in found]
    return found


def target(of: Card) -> Any:
    """The class that a card stands for."""
    try:
        return getattr(import_module(of.module), of.target)
    except ModuleNotFoundError as missing:
        if of.extra and not str(missing.name).startswith("autodidact"):
            raise ValueError(
                f"'{of.name}' needs {missing.name}, which is not installed: pip install 'autodidact[{of.extra}]'"
            ) from missing
        raise


def options(of: Card) -> dict[str, Option]:
    """What a user may set of a card's class, read without importing it: the keyword arguments of its constructor."""
    return {name: option for name, option in options_of(of.module, of.target).items() if not option.positional}
