"""A card: what is listed about a method, as plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

CardKind = Literal["method", "recipe", "encoder", "schedule", "meter", "tool", "procedure", "suite"]


@dataclass(frozen=True)
class Card:
    """What the lists, the docs and the command line say about one method.

    Written as a literal ``CARD = Card(...)`` at the top of the method's file, from which the catalogue reads it without
    importing the file.

    Attributes
    ----------
    name : what is typed on the command line.
    target : name of the class in the same file.
    kind : what the paper adds.
    verb : what runs a method or recipe: "pretrain" from data, "improve" from a language model and a task.
    title, paper : the system's name, and "authors, title (arXiv id, year)".
    summary : one sentence: what it does to whose data.
    number : the paper's number among the 68; 0 for a baseline.
    needs : field -> kind that the source must have.
    abilities : what the resulting model can do.
    arguments : names of the constructor arguments that matter most.
    search : options that `autodidact choose` varies, each with its range in the form of `compare.space`; only methods
        that have some are tried where none are named.
    claim : name of the claim that proves it, empty where there is none.
    further : names of further claims, each of another sentence of the paper; only beside a `claim`.
    asks : what must be said beside the data, as it is typed; empty where nothing must.
    extra : name of the optional dependencies that it needs, empty where the core suffices.
    encoder : the encoder that is used when none is named.
    members : names of the variants, for a suite.
    module : dotted name of the file, filled in by the catalogue.
    """

    name: str
    target: str
    kind: CardKind
    title: str
    paper: str
    summary: str
    number: int = 0
    verb: Literal["pretrain", "improve"] = "pretrain"
    needs: tuple[tuple[str, str], ...] = ()
    abilities: tuple[str, ...] = ("embed",)
    arguments: tuple[str, ...] = ()
    search: tuple[tuple[str, str], ...] = ()
    claim: str = ""
    further: tuple[str, ...] = ()
    asks: str = ""
    extra: str = ""
    encoder: str = ""
    members: tuple[str, ...] = ()
    module: str = ""

    @property
    def claims(self) -> tuple[str, ...]:
        """The names of all its claims, that which proves it first."""
        return (self.claim, *self.further) if self.claim else ()

    @property
    def taught_by_labels(self) -> bool:
        """Whether labels enter training: of whatever predicts, or needs them."""
        return "predict" in self.abilities or "label" in dict(self.needs).values()

    def plain(self) -> dict[str, Any]:
        """JSON-ready: tuples as lists, `needs` and `search` as dictionaries."""
        return {
            name: dict(value) if name in ("needs", "search") else list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }
