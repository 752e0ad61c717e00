"""Whether verdicts stand: the first seed of each claim run anew, by the library as it is now, in the place of the old.

A claim's result was measured once, and what came after it, faster code above all, must not change what it says. The
whole of every claim takes days, so one seed of those that are cheap is run. Of each: how far the main statement's
number moves, beside how far it lies from seed to seed, and the verdict with the new seed in the place of the old one.
Nothing is tuned: the settings are the frozen ones.

    python benchmarks/verdicts.py --json benchmarks/verdicts.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autodidact.claims import run_claim
from autodidact.claims.claim import Statement
from autodidact.claims.engine import claim_named, overall, verdict_of
from common import surroundings, tell

RESULTS = Path(__file__).parent.parent / "results"
MOST = 400.0
"""Seconds of a core that a seed may take to be run by default."""


def cheap(most: float) -> list[str]:
    """Claims whose results are of a processor, and whose seeds take at most so many seconds."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}
    return [
        name
        for name, result in found.items()
        if not result.get("accelerator") and result["seconds"] <= most * len(result["seeds"])
    ]


def stands(name: str, jobs: int = 1) -> dict[str, Any]:
    """What the first seed says now, and what verdict follows with it."""
    old = json.loads((RESULTS / f"{name}.json").read_text())
    with tempfile.TemporaryDirectory() as cache:
        new = run_claim(name, seeds=1, first_seed=old["seeds"][0], cache=cache, jobs=jobs, quiet=True)
    told = {statement.name: statement for statement in claim_named(name).statements}
    entries = [
        exchanged(told[was["name"]], was, now) for was, now in zip(old["statements"], new["statements"], strict=True)
    ]
    main = next(entry for entry in entries if entry["role"] == "main")
    before = next(entry for entry in old["statements"] if entry["role"] == "main")["values"]
    return {
        "claim": name,
        "was": before[0],
        "is": main["value"],
        "spread": statistics.stdev(before),
        "verdict was": old["verdict"],
        "verdict": overall(main["verdict"], entries)[0],
        "seconds": new["seconds"],
    }


def exchanged(statement: Statement, was: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """A statement with the new value of the first seed in the place of the old one."""
    values = [now["values"][0], *was["values"][1:]]
    verdict = verdict_of(statement, values)[1]
    return {"role": statement.role, "text": statement.text, "value": values[0], "verdict": verdict}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("claims", nargs="*", help="default: those whose seeds are cheap")
    parser.add_argument("--most", type=float, default=MOST, help="seconds a seed of a cheap one (default 400)")
    parser.add_argument("--jobs", type=int, default=0, help="processes; default two where there are two cores")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    given = parser.parse_args()
    rows = []
    for name in given.claims or cheap(given.most):
        rows.append(stands(name, given.jobs))
        print(rows[-1], flush=True)
    tell({**surroundings("torch", "numpy"), "rows": rows}, given.json)


if __name__ == "__main__":
    main()
