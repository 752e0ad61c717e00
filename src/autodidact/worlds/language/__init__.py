"""Language worlds: texts made by a rule, so that the right answer to every question is known."""

from autodidact.worlds.language.arithmetic import ModularSums, TwoTurnSums
from autodidact.worlds.language.commands import Commands
from autodidact.worlds.language.facts import Facts
from autodidact.worlds.language.principles import Principles
from autodidact.worlds.language.puzzles import TwoTurnPuzzles
from autodidact.worlds.language.ratings import RatedSums
from autodidact.worlds.language.strings import Strings
from autodidact.worlds.language.task import Document, Item, LanguageWorld, Split
from autodidact.worlds.language.two_turns import TwoTurnWorld

__all__ = [
    "Commands",
    "Document",
    "Facts",
    "Item",
    "LanguageWorld",
    "ModularSums",
    "Principles",
    "RatedSums",
    "Split",
    "Strings",
    "TwoTurnPuzzles",
    "TwoTurnSums",
    "TwoTurnWorld",
]
