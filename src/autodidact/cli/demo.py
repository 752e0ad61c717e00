"""``autodidact demo [--out DIR]``."""

from __future__ import annotations

import os
from collections.abc import Sequence

from autodidact.catalog.signature import options_of, summary_of
from autodidact.cli.parser import Parser

MODULE = "autodidact.verbs.demo"


def run(argv: Sequence[str]) -> None:
    """Parse and show; the demo speaks for itself."""
    parser = Parser("demo", "[--out DIR]", summary_of(MODULE, "demo"))
    parser.options(options_of(MODULE, "demo"), shown={"out": "DIR"})
    given = parser.take(argv)
    # The threads of small networks meet thousands of times a second. Waiting awake, which OpenMP does unless it is told
    # otherwise before torch is loaded, makes that 30 times slower where other programs use the same cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from autodidact.verbs.demo import demo

    demo(given["out"])
