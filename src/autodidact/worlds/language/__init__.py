"""Language worlds: texts made by a rule, or read from what is installed, so that the right answer to every question is
known."""

from autodidact.worlds.language.arithmetic import ModularSums, TwoTurnSums
from autodidact.worlds.language.commands import Commands
from autodidact.worlds.language.docstrings import Docstrings
from autodidact.worlds.language.facts import Facts
from autodidact.worlds.language.modes import PlantedModes
from autodidact.worlds.language.oracle import Oracle
from autodidact.worlds.language.principles import Principles
from autodidact.worlds.language.puzzles import TwoTurnPuzzles
from autodidact.worlds.language.ratings import RatedSums
from autodidact.worlds.language.strings import Strings
from autodidact.worlds.language.task import Document, Item, LanguageWorld, Split
from autodidact.worlds.language.two_turns import TwoTurnWorld

__all__ = [
    "Commands",
    "Docstrings",
    "Document",
    "Facts",
    "Item",
    "LanguageWorld",
    "ModularSums",
    "Oracle",
    "PlantedModes",
    "Principles",
    "RatedSums",
    "Split",
    "Strings",
    "TwoTurnPuzzles",
    "TwoTurnSums",
    "TwoTurnWorld",
]
