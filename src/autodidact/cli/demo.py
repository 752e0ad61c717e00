"""``autodidact demo [--out DIR]``."""

from __future__ import annotations

from collections.abc import Sequence

from autodidact.catalog.signature import options_of, summary_of
from autodidact.cli.parser import Parser

MODULE = "autodidact.verbs.demo"


def run(argv: Sequence[str]) -> None:
    """Parse and show; the demo speaks for itself."""
    parser = Parser("demo", "[--out DIR]", summary_of(MODULE, "demo"))
    parser.options(options_of(MODULE, "demo"), shown={"out": "DIR"})
    given = parser.take(argv)
    from autodidact.verbs.demo import demo

    demo(given["out"])
