"""The catalogue: cards and names as plain data; imports nothing heavy."""

from autodidact.catalog.card import Card, CardKind
from autodidact.catalog.cards import card, cards, members, options, suites, target, trained
from autodidact.catalog.nearest import unknown

__all__ = ["Card", "CardKind", "card", "cards", "members", "options", "suites", "target", "trained", "unknown"]
