"""``autodidact choose --data D [--methods simclr,vicreg] [--trials 8] [--steps 2000] [--search lr=1e-4:1e-2:log]``."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from autodidact.cli import compare
from autodidact.cli.figures import print_table
from autodidact.cli.parser import Parser
from autodidact.cli.pretrain import encoder_words

if TYPE_CHECKING:
    from autodidact.evaluation.table import Table

MODULE = "autodidact.verbs.choose"
DOCS = {
    **compare.DOCS,
    "methods": "names with commas between; default those that fit the data and whose cards say what to vary",
    "search": "NAME=LOW:HIGH, NAME=LOW:HIGH:log or NAME=VALUE,VALUE, any number of times: method.NAME for an option of "
    "the methods, or a training option such as lr, or encoder or image_size; a single value fixes it",
}


def run(argv: Sequence[str]) -> None:
    """Parse, search, print the finished trials, the ranking, and what labels say of it."""
    words, search = compare.gathered(encoder_words(argv), "--search", "NAME=LOW:HIGH, such as lr=1e-4:1e-2:log")
    given = make_parser().take([*words, f"--search={json.dumps(search)}"] if search else words)
    given.pop("config", None)
    if given["data"] is None:
        raise ValueError("choose needs data: autodidact choose --data DATA")
    from autodidact.training import Settings
    from autodidact.verbs.choose import choose

    training = given.pop("settings")
    data = given.pop("data")
    table = choose(data, settings=Settings(**training), protocols=given.pop("protocol"), **given)
    show(table)
    print(f"\nthe runs are in {given['out']}" + (f", the table is in {given['json']}" if given["json"] else ""))
    print(f"train the first one longer:\n  {command(table, str(data))}")


def show(table: Table) -> None:
    """The finished trials, best first, and what follows from them."""
    about = table.about
    print_table(table, f"{about['data']}, {about['samples']} samples, {about['budget']} a trial")
    for note in about["notes"]:
        print(f"note: {note}")
    for said, names in (("given up early", about["given_up"]), ("diverged", about["diverged"])):
        if names:
            print(f"{said}: {'; '.join(names)}")
    print(f"\nranked without labels, in a method by {about['by']}, between methods by {about['between']}:")
    for place, name in enumerate(about["ranking"], start=1):
        print(f"  {place}. {name}")
    if about["protocols"]:
        print("\nagreement with labels (Spearman's correlation over all finished trials; mean within methods):")
        for figure, by_protocol in about["agreement"].items():
            for protocol, entry in by_protocol.items():
                said = "; ".join(f"{where} {value:+.2f}" for where, value in entry.items())
                print(f"  {figure} and {protocol}: {said}")
        for protocol, value in about["regret"].items():
            print(f"  the first one's {protocol} is {value:.4f} below that of the best finished trial")


def command(table: Table, data: str) -> str:
    """The command that pretrains the chosen setting."""
    trial: Mapping[str, Any] = table.about["trials"][table.about["chosen"]]
    asked, arguments = table.about["encoder"], table.about["encoder_arguments"]
    by_slot = [f"{slot}={name}" for slot, name in asked.items()] if isinstance(asked, Mapping) else [asked]
    networks = [trial["network"]["encoder"]] if "encoder" in trial["network"] else [name for name in by_slot if name]
    others = {
        **{f"encoder.{name}": value for name, value in arguments.items()},
        **{f"method.{name}": value for name, value in trial["options"].items()},
        **{name.replace("_", "-"): value for name, value in trial["training"].items()},
        **{name.replace("_", "-"): value for name, value in trial["network"].items() if name != "encoder"},
    }
    options = [("encoder", name) for name in networks] + [(name, str(value)) for name, value in others.items()]
    words = [word for name, value in options for word in (f"--{name}", value)]
    return shlex.join(["autodidact", "pretrain", trial["method"], "--data", data, *words])


def make_parser() -> Parser:
    """The options of `autodidact.verbs.choose.choose` and of training."""
    return compare.parser_of("choose", "--data DATA [options]", MODULE, DOCS)
