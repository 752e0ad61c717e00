"""``autodidact tracks VIDEOS --out CROPS``."""

from __future__ import annotations

from collections.abc import Sequence

from autodidact.catalog.signature import options_of, summary_of
from autodidact.cli.parser import Parser

MODULE = "autodidact.verbs.tracks"


def run(argv: Sequence[str]) -> None:
    """Parse, mine, say where the crops are."""
    parser = Parser("tracks", "VIDEOS --out CROPS [options]", summary_of(MODULE, "tracks"))
    parser.positional("videos", "folder of videos and of folders of frames, nested; or one of either")
    parser.options(options_of(MODULE, "tracks"), but=("videos",), shown={"out": "DIR"})
    given = parser.take(argv)
    given.pop("config", None)
    if not given.get("videos") or given["out"] is None:
        raise ValueError("tracks needs videos and a folder for the crops: autodidact tracks VIDEOS --out CROPS")
    from autodidact.verbs.tracks import tracks

    folder = tracks(given.pop("videos"), **given)
    print(f"written to {folder}")
    print(f"next: autodidact pretrain transitive --data {folder}")
