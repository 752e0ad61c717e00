"""Whether verdicts stand: the first seed of claims run anew, by the library as it is now, in the place of the old.

A claim's result was measured once, and what came after it, faster code above all, must not change what it says. The
whole of every claim takes days, so one seed is run, of the arms that decide: those that the main statement asks for, a
premise, a guard or a control. Of each claim: how far the main statement's number moves, beside how far it lies from
seed to seed, and the verdict with the new seed in the place of the old one. Nothing is tuned: the settings are the
frozen ones. Without names those claims are run whose deciding arms are cheap; rows of others stay as --json has them.

    python benchmarks/verdicts.py --json benchmarks/verdicts.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from autodidact.claims.claim import Claim, Figures, Statement
from autodidact.claims.engine import claim_named, overall, verdict_of
from autodidact.compare.workers import Workers
from autodidact.data.cores import cores
from common import surroundings, tell

RESULTS = Path(__file__).parent.parent / "results"
MOST = 400.0
"""Seconds of a core that the deciding arms of a seed may take to be run by default."""


class Asked(Mapping[str, Mapping[str, float]]):
    """Figures of one seed, arm by arm, that take note of which arms are asked for."""

    def __init__(self, figures: Figures, arms: Sequence[str]) -> None:
        self.figures, self.arms = figures, arms
        self.names: set[str] = set()

    def __getitem__(self, arm: str) -> Mapping[str, float]:
        self.names.add(arm)
        return self.figures[arm]

    def __iter__(self) -> Iterator[str]:
        return iter(self.arms)

    def __len__(self) -> int:
        return len(self.arms)


def result_of(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return found


def deciding(name: str) -> list[str]:
    """Arms of which a claim's verdict is made, as far as its first seed has a part in it."""
    old, claim = result_of(name), claim_named(name)
    figures: dict[str, dict[str, float]] = {arm: {} for arm in claim.arms}
    for figure, arms in old["figures"].items():
        for arm, values in arms.items():
            if values and values[0] is not None:
                figures[arm][figure] = values[0]
    asked = Asked(figures, list(claim.arms))
    for statement in deciders(claim):
        statement.value(asked)
    return [arm for arm in claim.arms if arm in asked.names]


def deciders(claim: Claim) -> list[Statement]:
    return [statement for statement in claim.statements if statement.role != "also"]


def seconds_of(name: str) -> float:
    """What a core took for the deciding arms of a seed, of all cells alike."""
    old = result_of(name)
    cells = sum(len(values) for values in old["figures"][old["metric"]].values())
    return len(deciding(name)) * old["seconds"] / cells


def cheap(most: float) -> list[str]:
    """Claims whose results are of a processor, and whose deciding arms take at most so many seconds."""
    names = [path.stem for path in sorted(RESULTS.glob("*.json"))]
    return [name for name in names if not result_of(name).get("accelerator") and seconds_of(name) <= most]


def stands(name: str, jobs: int) -> dict[str, Any]:
    """What the first seed says now, and what verdict follows with it."""
    old, claim, arms = result_of(name), claim_named(name), deciding(name)
    seed, settings = old["seeds"][0], old["settings"]["frozen"]["settings"]
    with tempfile.TemporaryDirectory() as folder, Workers("autodidact.claims.engine:work", jobs) as workers:
        shared = {"claim": name, "scale": old["scale"], "seed": seed, "folder": folder}
        workers.do([{**shared, "arm": arm, "settings": settings[arm]} for arm in arms], lambda *_: None)
        kept = [json.loads(path.read_text()) for path in Path(folder).rglob("seed-*.json")]
    figures = {cell["arm"]: cell["figures"] for cell in kept}
    seconds = sum(one.pop("seconds") for one in figures.values())
    told = {statement.name: statement for statement in claim.statements}
    entries = []
    for was in old["statements"]:
        statement = told[was["name"]]
        if statement in deciders(claim):
            entries.append(exchanged(statement, was, float(statement.value(figures))))
    main = next(entry for entry in entries if entry["role"] == "main")
    before = next(entry for entry in old["statements"] if entry["role"] == "main")["values"]
    return {
        "claim": name,
        "was": before[0],
        "is": float(f"{main['value']:.6g}"),
        "spread": statistics.stdev(before),
        "verdict was": old["verdict"],
        "verdict": overall(main["verdict"], entries)[0],
        "arms": len(arms),
        "seconds": seconds,
    }


def exchanged(statement: Statement, was: Mapping[str, Any], now: float) -> dict[str, Any]:
    """A statement with the new value of the first seed in the place of the old one."""
    values = [now, *was["values"][1:]]
    verdict = verdict_of(statement, values)[1]
    return {"role": statement.role, "text": statement.text, "value": now, "verdict": verdict}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("claims", nargs="*", help="default: those that are cheap")
    parser.add_argument("--most", type=float, default=MOST, help="seconds of a core for a cheap one (default 400)")
    parser.add_argument("--jobs", type=int, default=min(2, cores()), help="processes (default two, with two cores)")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    given = parser.parse_args()
    known = json.loads(given.json.read_text())["rows"] if given.json and given.json.exists() else []
    rows = {row["claim"]: row for row in known}
    for name in given.claims or cheap(given.most):
        rows[name] = stands(name, given.jobs)
        print(rows[name], flush=True)
        # Each takes long, and the next one may be stopped.
        left = sorted({path.stem for path in RESULTS.glob("*.json")} - rows.keys())
        told = {"rows": [rows[name] for name in sorted(rows)], "left": left}
        tell({**surroundings("torch", "numpy"), **told}, given.json)


if __name__ == "__main__":
    main()
