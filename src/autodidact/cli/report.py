"""``autodidact report RUN [--out FILE]``."""

from __future__ import annotations

from collections.abc import Sequence

from autodidact.catalog.signature import options_of, summary_of
from autodidact.cli.parser import Parser

MODULE = "autodidact.verbs.report"


def run(argv: Sequence[str]) -> None:
    """Parse, draw, say where."""
    parser = Parser("report", "RUN [--out FILE]", summary_of(MODULE, "report"))
    parser.positional("run", "run folder")
    parser.options(options_of(MODULE, "report"), but=("run",), shown={"out": "FILE"})
    given = parser.take(argv)
    if not given.get("run"):
        raise ValueError("report needs a run: autodidact report RUN")
    from autodidact.verbs.report import report

    print(f"written to {report(given['run'], out=given['out'])}")
