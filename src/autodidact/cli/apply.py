"""``autodidact apply RUN --ability predict --data D --out FILE``; also behind its short form `embed`."""

from __future__ import annotations

from collections.abc import Sequence

from autodidact.catalog.signature import options_of
from autodidact.cli.parser import Parser
from autodidact.cli.words import DATA

MODULE = "autodidact.verbs.apply"
SHOWN = {"data": "DATA", "out": "FILE", "split": "NAME"}
FILE = (
    "file to write. .parquet: a row a sample, with its id, its name (the file name, or the row) and the values; .npy: "
    "the values as one array, and beside it NAME.names.csv"
)


def run(argv: Sequence[str], verb: str = "apply") -> None:
    """Parse, apply, say where the values are."""
    abilities = "" if verb == "embed" else " --ability ABILITY"
    what = "Write the embeddings" if verb == "embed" else "Write what one ability of a model says"
    parser = Parser(
        verb, f"RUN{abilities} --data DATA --out FILE", f"{what} of every sample of the data, in its order."
    )
    parser.positional("run", "run folder or model folder")
    but = ("run", "ability") if verb == "embed" else ("run",)
    parser.options(options_of(MODULE, "apply"), but=but, docs={"data": DATA, "out": FILE}, shown=SHOWN)
    given = parser.take(argv)
    given.pop("config", None)
    if not given.get("run") or given["data"] is None or given["out"] is None:
        raise ValueError(f"{verb} needs a run, data and a file: autodidact {verb} RUN --data DATA --out FILE.parquet")
    from autodidact.verbs.apply import apply, skipped_file

    written = apply(given.pop("run"), given.pop("data"), **given)
    print(f"written to {written}")
    if (skipped := skipped_file(written)).is_file():
        print(f"{len(skipped.read_text().splitlines())} could not be read and are listed in {skipped}")
