"""``autodidact export RUN --format timm|hf|torch|onnx --out PATH``."""

from __future__ import annotations

from collections.abc import Sequence

from autodidact.catalog.signature import options_of, summary_of
from autodidact.cli.parser import Parser

MODULE = "autodidact.verbs.export"


def run(argv: Sequence[str]) -> None:
    """Parse, write, say where."""
    own = options_of(MODULE, "export")
    parser = Parser("export", "RUN --format FORMAT --out DIR", summary_of(MODULE, "export"))
    parser.positional("run", "run folder or model folder")
    parser.options(own, but=("source",), shown={"out": "DIR"})
    given = parser.take(argv)
    if not given.get("run") or given["format"] is None or given["out"] is None:
        raise ValueError("export needs a run, a format and a folder: autodidact export RUN --format timm --out DIR")
    from autodidact.verbs.export import export

    folder = export(given["run"], given["format"], given["out"])
    print(f"written to {folder}; {folder / 'README.md'} shows how it is loaded")
