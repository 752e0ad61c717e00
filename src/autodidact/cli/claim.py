"""``autodidact claim NAME[,NAME...] [--seeds 5] [--scale laptop|gpu|tiny] [--json FILE] [--known FILE]``."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from autodidact.catalog import cards
from autodidact.catalog.signature import options_of, summary_of
from autodidact.cli.parser import Parser

MODULE = "autodidact.claims.engine"


def run(argv: Sequence[str]) -> None:
    """Parse, run, print arms, interval and verdict."""
    own = options_of(MODULE, "run_claim")
    parser = Parser("claim", "NAME[,NAME...] [options]", summary_of(MODULE, "run_claim"))
    claims = sorted(name for card in cards().values() for name in card.claims)
    parser.positional(
        "name", f"of the claim, or of several with commas, which share the processes: {', '.join(claims)}"
    )
    parser.options(own, but=("name",), shown={"json": "FILE", "cache": "DIR", "known": "FILE"})
    given = parser.take(argv)
    given.pop("config", None)
    if not given.get("name"):
        raise ValueError(f"which claim? autodidact claim NAME, one of {', '.join(claims)}")
    from autodidact.claims import run_claim, run_claims

    names = [name.strip() for name in given.pop("name").split(",") if name.strip()]
    results = [run_claim(names[0], **given)] if len(names) == 1 else run_claims(names, **given).values()
    print("\n\n".join(judged(result) for result in results))
    if given["json"]:
        print(f"written to {given['json']}")


def judged(result: Mapping[str, Any]) -> str:
    """A claim's result for a terminal."""
    seeds = result["seeds"]
    lines = textwrap.wrap(f"{result['number']} {result['name']}: {result['statement']}", 100)
    lines += ["", f"{result['metric']}, {len(seeds)} seeds, {result['budget']}"]
    width = max(map(len, result["arms"]))
    for arm, values in result["arms"].items():
        lines.append(f"  {arm:<{width}}  {fmean(values):.4g}   ({', '.join(f'{v:.4g}' for v in values)})")
    lines.append("")
    for entry in result["statements"]:
        wanted = f"must be {entry['direction']} {entry['margin']:g}{' ' + entry['unit'] if entry['unit'] else ''}"
        lines.append(f"{entry['role']}: {entry['text']}")
        lines.append(f"  {_interval(entry['difference'])}, {wanted}: {entry['verdict']}")
    lines += ["", f"verdict: {result['verdict']}" + (f" ({result['why']})" if result.get("why") else "")]
    lines += [f"note: {note}" for note in result.get("notes", ())]
    return "\n".join(lines)


def _interval(difference: Mapping[str, float | None]) -> str:
    if difference["low"] is None:
        return f"{difference['mean']:.4g} (one seed: no interval)"
    return f"{difference['mean']:.4g} [{difference['low']:.4g}, {difference['high']:.4g}]"
