"""The core of every comparison: one piece of work for each (arm, seed), done once, kept, and put into one table."""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from autodidact.evaluation.table import Table
from autodidact.model.model import write_aside

Arm = Callable[[int], Mapping[str, float]]
"""The work of one arm: from a seed to figures by metric."""

SECONDS = "seconds"


def run_arms(
    arms: Mapping[str, Arm],
    seeds: Sequence[int],
    *,
    folder: str | Path | None = None,
    keys: Mapping[str, Any] | None = None,
    about: Mapping[str, Any] | None = None,
    say: Callable[[str], None] | None = None,
) -> Table:
    """Do the work of every arm and seed that is not done yet; all figures as one table.

    The seeds are the outer loop: a comparison that is cut off has every arm for the same seeds, so its differences are
    paired, and a machine that slows down slows all arms alike.

    Parameters
    ----------
    arms : name -> work, in the order of the table.
    seeds : distinct; each arm gets each of them.
    folder : where finished cells are kept, one JSON file each; None keeps nothing.
    keys : arm -> JSON-ready description of all that its figures depend on, beside the seed. A cell is taken from the
        folder only when name, key and seed are those it was made with. Default: names and seeds alone.
    about : facts that stand beside the figures.
    say : is told of every cell that is done, in one line.

    Returns
    -------
    Table
        The arms' metrics, and ``seconds``: the wall-clock time of each cell when it was computed.

    Raises
    ------
    ValueError
        No arms, no seeds, a seed twice, a key for an arm that does not exist, or a figure that is not finite (such a
        cell is not kept).
    """
    if not arms or not seeds:
        raise ValueError(f"a comparison needs arms and seeds, got {len(arms)} arms and {len(seeds)} seeds")
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"each seed counts once, got {list(seeds)}")
    if stray := sorted(set(keys or {}) - set(arms)):
        raise ValueError(f"keys for arms that do not exist: {', '.join(stray)}")
    table = Table(about)
    cells: dict[tuple[str, int], dict[str, float]] = {}
    for seed in seeds:
        for name, work in arms.items():
            path = None if folder is None else cell_path(folder, name, seed, (keys or {}).get(name))
            cells[name, seed] = _cell(path, name, seed, work, say)
    for name in arms:
        for seed in seeds:
            for metric, value in cells[name, seed].items():
                table.add(name, metric, seed, value)
    return table


def cell_path(folder: str | Path, arm: str, seed: int, key: Any = None) -> Path:
    """Where the figures of one cell are kept."""
    readable = re.sub(r"[^A-Za-z0-9._=-]+", "_", arm).strip("_")[:60]
    return Path(folder) / f"{readable}-{digest([arm, key])}" / f"seed-{seed}.json"


def digest(value: Any) -> str:
    """Twelve hexadecimal digits that depend on all of a JSON-ready value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]


def _cell(path: Path | None, arm: str, seed: int, work: Arm, say: Callable[[str], None] | None) -> dict[str, float]:
    if path is not None and path.exists():
        figures = dict(json.loads(path.read_text())["figures"])
        _tell(say, arm, seed, figures, "done before")
        return figures
    started = time.perf_counter()
    figures = {metric: float(value) for metric, value in work(seed).items()}
    figures.setdefault(SECONDS, time.perf_counter() - started)
    for metric, value in figures.items():
        if not math.isfinite(value):
            raise ValueError(f"{arm}, seed {seed}: {metric} is {value}")
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_aside(path, json.dumps({"arm": arm, "seed": seed, "figures": figures}, indent=1).encode())
    _tell(say, arm, seed, figures, f"{figures[SECONDS]:.1f} s")
    return figures


def _tell(say: Callable[[str], None] | None, arm: str, seed: int, figures: Mapping[str, float], when: str) -> None:
    if say is not None:
        shown = ", ".join(f"{metric} {value:.4g}" for metric, value in figures.items() if metric != SECONDS)
        say(f"{arm}, seed {seed}: {shown} ({when})")
