"""Arms from methods and a grid of settings; the budget is never among the settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import product
from typing import Any

from autodidact.catalog import unknown
from autodidact.recipes.names import find, options
from autodidact.training.settings import Settings

OPTION = "method."
NETWORK = ("encoder", "image_size")
# What would give one arm more than another, or belongs to the machine and not to the arm.
BUDGET = ("epochs", "steps", "tokens", "seed", "devices", "nodes", "accelerator", "workers", "loggers")


@dataclass(frozen=True)
class Setting:
    """One arm of a comparison.

    Attributes
    ----------
    name : the method, and the values in which it differs from other arms of that method.
    method : name of a method or recipe.
    options : arguments of the method.
    training : changed fields of `Settings`.
    network : changed `encoder` and `image_size`.
    """

    name: str
    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    network: Mapping[str, Any] = field(default_factory=dict)


def settings_of(methods: Sequence[str], grid: Mapping[str, Sequence[Any]]) -> list[Setting]:
    """All methods with all combinations of the values that apply to them.

    Parameters
    ----------
    methods : names, each once.
    grid : ``method.NAME`` for an option of the methods that have it, the name of a field of `Settings`, ``encoder`` or
        ``image_size`` -> candidates.

    Raises
    ------
    ValueError
        No method, a method twice or unknown, a key that no method has or that would change the budget, no candidates.
    """
    names = list(methods)
    if not names:
        raise ValueError("a comparison needs at least one method")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"each method counts once, got {', '.join(twice)} more than once")
    known = {name: set(options(find(name)[0])) for name in names}
    for key, candidates in grid.items():
        _check(key, candidates, known)
    return [setting for name in names for setting in _of(name, _applying(grid, known[name]))]


def _applying(grid: Mapping[str, Sequence[Any]], known: set[str]) -> dict[str, Sequence[Any]]:
    return {key: c for key, c in grid.items() if not key.startswith(OPTION) or key.removeprefix(OPTION) in known}


def _of(method: str, grid: Mapping[str, Sequence[Any]]) -> list[Setting]:
    varied = [key for key, candidates in grid.items() if len(candidates) > 1]
    found = []
    for values in product(*grid.values()):
        chosen = dict(zip(grid, values, strict=True))
        differs = ", ".join(f"{key.removeprefix(OPTION)}={chosen[key]}" for key in varied)
        found.append(
            Setting(
                f"{method} {differs}".strip(),
                method,
                {k.removeprefix(OPTION): v for k, v in chosen.items() if k.startswith(OPTION)},
                {k: v for k, v in chosen.items() if not k.startswith(OPTION) and k not in NETWORK},
                {k: v for k, v in chosen.items() if k in NETWORK},
            )
        )
    return found


def _check(key: str, candidates: Sequence[Any], known: Mapping[str, set[str]]) -> None:
    training = [each.name for each in fields(Settings) if each.name not in BUDGET]
    if key in BUDGET:
        raise ValueError(f"the grid cannot hold {key}: every arm of a comparison has the same budget")
    if not candidates:
        raise ValueError(f"the grid has no values for {key}")
    valid = [*training, *NETWORK, *sorted({f"{OPTION}{name}" for names in known.values() for name in names})]
    if key not in valid:
        raise unknown("entry of the grid", key, valid)
