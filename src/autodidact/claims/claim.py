"""What a claim is: arms that differ in one argument, and what their figures must show."""

from __future__ import annotations

import ast
import hashlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from autodidact.catalog import unknown
from autodidact.evaluation.curves import Curves

Scale = Literal["laptop", "gpu", "tiny"]
SCALES: tuple[Scale, ...] = ("laptop", "gpu", "tiny")

Figures = Mapping[str, Mapping[str, float]]
"""Arm -> figure -> value, of one seed."""

Role = Literal["main", "also", "premise", "guard", "control"]


@dataclass(frozen=True)
class Statement:
    """One sentence that the figures of every seed decide.

    Attributes
    ----------
    name : unique in the claim.
    text : the sentence, in plain words.
    value : the figures of one seed -> the number that the sentence is about, mostly a difference of two arms.
    margin : the mean of the numbers must lie above it (or below, see `direction`).
    direction : "above" or "below" the margin.
    role : "main" decides the claim. "also" is reported beside it with a verdict of its own. A "premise" must hold, or
        the question makes no sense. A "guard" must hold for a win to count: no win by degenerate means; where it is
        refuted, so is the claim. A "control" is an arm that must fail, stated as its failing.
    unit : of the number, for people.
    """

    name: str
    text: str
    value: Callable[[Figures], float]
    margin: float = 0.0
    direction: Literal["above", "below"] = "above"
    role: Role = "also"
    unit: str = ""


@dataclass(frozen=True)
class Claim:
    """A paper's claim as an experiment.

    Attributes
    ----------
    name, number : as on the paper's card.
    statement : the sentence tested.
    run : one arm on one seed: keyword arguments -> figures. Called with the scale's settings, the arm's own arguments,
        what was tuned, and `seed`. All arms go through this one function.
    arms : arm -> the arguments in which it differs from the others.
    scales : scale -> settings that all arms share.
    metric : the figure that is listed for every arm.
    budget : what every arm may spend, in an honest unit; names of the scale's settings stand in braces.
    statements : exactly one has the role "main".
    grid : argument -> candidates, tried for every arm on the tuning seeds: equal effort for all. Empty: nothing is
        tuned.
    tuned_by : figure that tuning maximises; it must not come from test answers.
    tunes : arms that are tuned; the others take the settings of the arm they name here (a control that repeats an arm
        with one thing broken).
    tuning_seeds : never among the reported ones.
    seeds : those reported unless others are asked for.
    few : arms that run on the first so many of the reported seeds only, for statements beside the main one: where the
        main question needs many seeds, the work goes there.
    version : raised by hand when a change outside the claim's file changes what it measures.
    same_as : digest of the claim's code, and of the code before it, where a change (a further argument, say) left what
        every arm had measured as it was: then figures, frozen settings and results of the code before stand. Checked
        by hand, by working on an arm with both; any further change of the code ends it.
    draws : the figures of all seeds -> the panels of a picture, which is written beside the result and shown on the
        method's page; None for no picture. A curve's points are figures like any others.
    notes : what was tried before the settings were frozen, and why the verdict is what it is.
    """

    name: str
    number: int
    statement: str
    run: Callable[..., Mapping[str, float]]
    arms: Mapping[str, Mapping[str, Any]]
    scales: Mapping[Scale, Mapping[str, Any]]
    metric: str
    budget: str
    statements: tuple[Statement, ...]
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    tuned_by: str = "validation"
    tunes: Mapping[str, str] = field(default_factory=dict)
    tuning_seeds: tuple[int, ...] = (1000, 1001)
    seeds: range = range(5)
    few: Mapping[str, int] = field(default_factory=dict)
    version: int = 1
    same_as: tuple[str, str] | None = None
    draws: Callable[[Sequence[Figures]], Sequence[Curves]] | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        mains = [statement.name for statement in self.statements if statement.role == "main"]
        if len(mains) != 1:
            raise ValueError(f"claim '{self.name}' needs exactly one main statement, it has {mains or 'none'}")
        for name in (*self.tunes, *self.tunes.values(), *self.few):
            if name not in self.arms:
                raise unknown(f"arm of claim '{self.name}'", name, self.arms)
        for name, count in self.few.items():
            if count < 1:
                raise ValueError(f"arm '{name}' of claim '{self.name}' must run on at least 1 seed, got {count}")

    def arms_on(self, place: int) -> list[str]:
        """Arms that run on the reported seed at this place, from 0."""
        return [arm for arm in self.arms if place < self.few.get(arm, place + 1)]

    @property
    def main(self) -> Statement:
        """The statement that decides the claim."""
        return next(statement for statement in self.statements if statement.role == "main")

    def settings(self, scale: Scale) -> Mapping[str, Any]:
        """What all arms share at a scale."""
        if scale not in self.scales:
            raise unknown(f"scale of claim '{self.name}'", scale, self.scales)
        return self.scales[scale]

    def code(self) -> str:
        """Digest of the functions and classes of the claim's file, docstrings left out; see `same_as`."""
        now = self.digest()
        return self.same_as[1] if self.same_as is not None and self.same_as[0] == now else now

    def digest(self) -> str:
        """Digest of the code as it stands, whatever it is the same as."""
        return _code_digest(inspect.getsource(sys.modules[self.run.__module__]))

    def key(self, scale: Scale) -> dict[str, Any]:
        """All that the figures depend on beside arm, tuned settings and seed."""
        return {
            "claim": self.name,
            "version": self.version,
            "code": self.code(),
            "scale": scale,
            "settings": dict(self.settings(scale)),
        }


@cache
def _code_digest(source: str) -> str:
    # Module-level values (settings, sentences, notes) are left out: what of them matters is part of the key itself.
    parts = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            for inner in ast.walk(node):
                if isinstance(inner, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(inner) is not None:
                    inner.body = inner.body[1:] or [ast.Pass()]
            parts.append(ast.unparse(node))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
