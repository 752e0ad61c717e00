"""``autodidact select RUN --pool POOL --target TARGET --out LIST.txt``."""

from __future__ import annotations

from collections.abc import Sequence

from autodidact.catalog.signature import options_of
from autodidact.cli.parser import Parser
from autodidact.cli.words import DATA

MODULE = "autodidact.verbs.select"
SHOWN = {"pool": "DATA", "target": "DATA", "out": "FILE"}
DOCS = {
    "pool": f"what to select from: {DATA}",
    "target": "what the selection shall resemble, named in the same way",
    "out": "file to write. .txt: the files of the selected images, one a line, which --data accepts; .csv: a row a "
    "sample, with its id, its name, the round in which it was selected and its similarity; .tar: the selected images, "
    "copied into a shard, which --data accepts",
}


def run(argv: Sequence[str]) -> None:
    """Parse, select, say where the list is."""
    about = (
        "Select those samples of a large pool that resemble a small target set (SimCore), by the embeddings of a run."
    )
    parser = Parser("select", "RUN --pool POOL --target TARGET --out LIST.txt", about)
    parser.positional("run", "run folder or model folder; best of a run on the target")
    parser.options(options_of(MODULE, "select"), but=("run",), docs=DOCS, shown=SHOWN)
    given = parser.take(argv)
    given.pop("config", None)
    if not given.get("run") or None in (given["pool"], given["target"], given["out"]):
        raise ValueError(
            "select needs a run, a pool, a target and a file: "
            "autodidact select RUN --pool POOL --target TARGET --out LIST.txt"
        )
    from autodidact.verbs.select import select

    file = select(given.pop("run"), given.pop("pool"), given.pop("target"), **given)
    print(f"written to {file}")
    if file.suffix.lower() in (".txt", ".tar"):
        print(f"next: autodidact pretrain METHOD --data {file}")
