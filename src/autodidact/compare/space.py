"""What a search may vary: options with the range or the values that they are drawn from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from autodidact.catalog import cards, unknown
from autodidact.compare.grid import BUDGET, NETWORK, OPTION
from autodidact.recipes.names import find, options
from autodidact.training.settings import Settings

RATE = 4.0
"""The learning rate is drawn from this factor below the one asked for to this factor above it."""


@dataclass(frozen=True)
class Range:
    """Numbers between two ends.

    Attributes
    ----------
    low, high : the ends, which may be drawn.
    log : draw the logarithm evenly.
    whole : whole numbers only.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"a range goes from a smaller to a larger number, got {self.low:g}:{self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range starts above 0, got {self.low:g}")


Domain = Range | tuple[Any, ...]
"""A range, or the values themselves."""

Space = Mapping[str, Domain]
"""``method.NAME``, a field of `Settings`, ``encoder`` or ``image_size`` -> what it is drawn from."""


def domain(text: str, kind: str = "float") -> Domain:
    """A domain as it is typed: ``LOW:HIGH``, ``LOW:HIGH:log``, or values with commas between.

    Parameters
    ----------
    text : such as "1e-4:1e-2:log" or "0.9,0.99".
    kind : annotation of the option; ranges of an "int" are of whole numbers.

    Raises
    ------
    ValueError
        Nothing, no numbers, or a range whose ends are the wrong way round.
    """
    if ":" in text and "," not in text and not text.startswith(("timm:", "hf:", "small:")):
        low, high, *rest = text.split(":")
        if rest not in ([], ["log"]):
            raise ValueError(f"a range is LOW:HIGH or LOW:HIGH:log, got '{text}'")
        return Range(_number(low), _number(high), log=bool(rest), whole=kind.startswith("int"))
    values = tuple(_typed(part.strip()) for part in text.split(",") if part.strip())
    if not values:
        raise ValueError("there is nothing to draw from")
    return values


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"a range goes from one number to another, got '{text}'") from None


def _typed(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)


def space_of(method: str, asked: Mapping[str, Any], settings: Settings) -> dict[str, Domain]:
    """What is varied for a method: what its card names and the learning rate, unless the user names something else.

    Parameters
    ----------
    method : name of a method or recipe.
    asked : key -> domain, a value, or as it is typed; it stands in for the card's, and a single value fixes an option.
        Options that the method does not have are left out; `check_space` says whether any has it.
    settings : the learning rate lies in the middle of its range.
    """
    known = {name: option.annotation for name, option in options(find(method)[0]).items()}
    card = cards().get(method)
    found: dict[str, Domain] = {
        "lr": Range(settings.lr / RATE, settings.lr * RATE, log=True),
        **{f"{OPTION}{name}": domain(text, known[name]) for name, text in (card.search if card else ())},
    }
    for key, given in asked.items():
        name = key.removeprefix(OPTION)
        if key.startswith(OPTION) and name not in known:
            continue
        found[key] = given if isinstance(given, Range) else _domain_of(given, known.get(name, "float"))
    return found


def _domain_of(given: Any, kind: str) -> Domain:
    if isinstance(given, str):
        return domain(given, kind)
    return tuple(given) if isinstance(given, Sequence) else (given,)


def check_space(asked: Mapping[str, Any], methods: Sequence[str], settings: Settings) -> None:
    """Raise ValueError for a key that no method has, or that would change the budget that the settings give."""
    training = [each.name for each in fields(Settings) if each.name not in BUDGET]
    own = sorted({f"{OPTION}{name}" for method in methods for name in options(find(method)[0])})
    for key in asked:
        if key in BUDGET:
            raise ValueError(f"a search cannot vary {key}: every trial has the same budget")
        if key == "batch_size" and settings.steps:
            raise ValueError(
                "a search over batch_size needs a budget in --epochs: of as many steps, larger batches see more samples"
            )
        if key not in (valid := [*training, *NETWORK, *own]):
            raise unknown("option to search", key, valid)


def searched() -> list[str]:
    """Methods whose cards say what to vary: those that are tried where none are named."""
    return [name for name, card in cards().items() if card.search]
