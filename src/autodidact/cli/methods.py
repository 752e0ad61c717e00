"""``autodidact methods [NAME] [--json]``: what can be pretrained or improved with, read from the cards alone."""

from __future__ import annotations

import argparse
import json
import shutil
import textwrap
from collections.abc import Sequence
from typing import Any, NoReturn

from autodidact.catalog import Card, card, cards, options, unknown
from autodidact.catalog.signature import REQUIRED

INDENT = 4
HOW = {
    "method": "options, as --method.NAME VALUE",
    "recipe": "options, as --method.NAME VALUE",
    "encoder": "options of --encoder small:{name}, as --encoder.NAME VALUE",
}
"""Kind of a card -> what its options are called and how they are given."""


class Quiet(argparse.ArgumentParser):
    """A parser that raises instead of printing its usage; lighter than that of the other verbs, to answer at once."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message} ({self.prog} --help explains)")


def run(argv: Sequence[str]) -> None:
    """List the methods, recipes and encoders, or describe one."""
    about = "List the methods, or describe one with its options."
    parser = Quiet(prog="autodidact methods", description=about, allow_abbrev=False)
    parser.add_argument("name", nargs="?", metavar="NAME", help="a method, to see its card and options; default all")
    parser.add_argument("--json", action="store_true", help="as JSON, with everything that is known of each")
    given = parser.parse_args(list(argv))
    if given.name and given.name not in cards():
        raise unknown("method", given.name, cards())
    if given.json:
        found = described(card(given.name)) if given.name else [described(each) for each in cards().values()]
        print(json.dumps(found, indent=1, ensure_ascii=False))
    elif given.name:
        print(page(card(given.name)))
    else:
        print(table())


def described(of: Card) -> dict[str, Any]:
    """A card with its options, JSON-ready."""
    return {**of.plain(), "options": {name: option.plain() for name, option in options(of).items()}}


def table() -> str:
    """All cards, a line each, or two where the terminal is narrow."""
    width = shutil.get_terminal_size((120, 24)).columns
    heads = ("no", "name", "kind", "needs")
    rows = [(str(c.number or "-"), c.name, c.kind, needs(c)) for c in cards().values()]
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    lines = []
    for row, summary in zip([heads, *rows], ["what it does", *(c.summary for c in cards().values())], strict=True):
        start = "  ".join(cell.ljust(size) for cell, size in zip(row, widths, strict=True)) + "  "
        if width - len(start) >= 40:
            lines += textwrap.wrap(summary, width, initial_indent=start, subsequent_indent=" " * len(start))
        else:
            lines += [start.rstrip(), *textwrap.wrap(summary, width, initial_indent="    ", subsequent_indent="    ")]
    return "\n".join(
        [
            *lines,
            "",
            "autodidact methods NAME describes one; autodidact pretrain NAME --data DATA uses it, with an encoder "
            "by --encoder small:NAME; what improves language models is used by autodidact improve NAME --model MODEL "
            "--task FILE.",
        ]
    )


def needs(of: Card) -> str:
    """Fields that the data must have."""
    if of.verb == "improve":
        return "model, task"
    return ", ".join(field if field == kind else f"{field} ({kind})" for field, kind in of.needs) or "-"


def page(of: Card) -> str:
    """One card with its options."""
    width = min(shutil.get_terminal_size((120, 24)).columns, 120)
    facts = {
        "paper": of.paper,
        "number": str(of.number) if of.number else "",
        "kind": of.kind,
        "used by": f"autodidact {of.verb} {of.name}" if of.kind in ("method", "recipe") else "",
        "needs": needs(of),
        "encoder": of.encoder and f"{of.encoder} unless another is named",
        "gives": ", ".join(of.abilities),
        "choose": ", ".join(f"{name}={drawn}" for name, drawn in of.search),
        "variants": ", ".join(of.members),
        "install": of.extra and f"pip install 'autodidact[{of.extra}]'",
        "claim": of.claim and f"autodidact claim {','.join(of.claims)}",
        "source": of.module,
    }
    lines = [of.title, *textwrap.wrap(of.summary, width), ""]
    for name, fact in facts.items():
        if fact:
            lines += textwrap.wrap(fact, width, initial_indent=f"{name:<9}", subsequent_indent=" " * 9)
    if known := options(of):
        how = HOW.get(of.kind, "arguments").format(name=of.name)
        lines += ["", f"{how} (those marked * matter most):"]
    for name, option in known.items():
        default = "" if option.default is REQUIRED else f" = {option.default!r}"
        lines.append(f"{'*' if name in of.arguments else ' '} {name}: {option.annotation}{default}")
        lines += textwrap.wrap(option.doc, width, initial_indent=" " * INDENT, subsequent_indent=" " * INDENT)
    return "\n".join(lines)
