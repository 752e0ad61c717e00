"""``autodidact compare --data D --methods simclr,dcl --seeds 3 --epochs 10 --grid method.temperature=0.1,0.2``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from autodidact.catalog import members
from autodidact.catalog.signature import options_of, summary_of
from autodidact.cli.annotations import value
from autodidact.cli.figures import print_differences, print_table
from autodidact.cli.parser import Parser
from autodidact.cli.pretrain import encoder_words, method_options
from autodidact.cli.words import DATA, ENCODER, LABELS

MODULE = "autodidact.verbs.compare"
DOCS = {
    "data": DATA,
    "methods": "names with commas between; the others are compared to the first; a suite such as vit_suite stands for "
    "its methods",
    "grid": "NAME=VALUE,VALUE,..., any number of times: method.NAME for an option of the methods, or a training option "
    "such as lr, or encoder or image_size; every combination becomes an arm",
    "encoder": ENCODER,
    "encoder_arguments": "further arguments of the encoders, each as --encoder.NAME VALUE",
    "image_size": "side of the views in pixels; default by the data: its own size up to 64, else 224",
    "channels": "channels of the images; default those of the data",
    "pretrained": "start from the encoder's published weights, or from a file of weights",
    "label_from": LABELS,
}
SHOWN = {
    "data": "DATA",
    "methods": "A,B,...",
    "protocols": "A,B,...",
    "out": "DIR",
    "labels": "BUDGET",
    "grid": "NAME=A,B,...",
    "search": "NAME=...",
    "by": "FIGURE",
    "between": "FIGURE",
    "encoder": "NAME",
    "image_size": "PX",
    "pretrained": "[FILE]",
    "test": "DATA",
    "label_from": "WHERE",
    "json": "FILE",
}
NAMES = {"protocols": "protocol"}
TEXT = {
    "methods": "str | None",
    "protocols": "str | None",
    # As text: 1:0.5 would be read as minutes and seconds.
    "search": "Mapping[str, str | float] | None",
}


def run(argv: Sequence[str]) -> None:
    """Parse, compare, print the table and the differences to the first arm."""
    given = make_parser().take(grid_words(encoder_words(argv)))
    given.pop("config", None)
    if given["data"] is None or given["methods"] is None:
        raise ValueError("compare needs data and methods: autodidact compare --data DATA --methods simclr,dcl")
    given["grid"] = typed_grid(given["grid"] or {}, given["methods"])
    from autodidact.training import Settings
    from autodidact.verbs.compare import comparable, compare

    training = given.pop("settings")
    table = compare(
        given.pop("data"), given.pop("methods"), settings=Settings(**training), protocols=given.pop("protocol"), **given
    )
    about = table.about
    labels = f"; {about['labels']} of the labels" if about["protocols"] else "; no labels"
    first = next(iter(about["arms"]))
    print_table(
        table, f"{about['data']}, {about['samples']} samples, {about['budget']}{labels}, {given['seeds']} seeds"
    )
    for note in about["notes"]:
        print(f"note: {note}")
    print_differences(table, [(arm, first) for arm in table.arms if arm != first], comparable)
    print(f"\nthe runs are in {given['out']}" + (f", the table is in {given['json']}" if given["json"] else ""))


def grid_words(argv: Sequence[str]) -> list[str]:
    """Every ``--grid NAME=VALUE,VALUE`` gathered into one dictionary of lists of text."""
    words, grid = gathered(argv, "--grid", "NAME=VALUE,VALUE, such as method.temperature=0.1,0.2")
    listed = {name: [each.strip() for each in text.split(",") if each.strip()] for name, text in grid.items()}
    return [*words, f"--grid={json.dumps(listed)}"] if grid else words


def gathered(argv: Sequence[str], option: str, form: str) -> tuple[list[str], dict[str, str]]:
    """The other words, and what stands behind every ``OPTION NAME=TEXT``, by name."""
    words, left, found = list[str](), list(argv), dict[str, str]()
    while left:
        word = left.pop(0)
        spelt, equals, entry = word.partition("=")
        if spelt != option:
            words.append(word)
            continue
        entry = entry if equals else left.pop(0) if left else ""
        name, equals, text = entry.partition("=")
        if not equals or not name:
            raise ValueError(f"{option} takes {form}, got '{entry}'")
        found[name.replace("-", "_")] = text
    return words, found


def typed_grid(grid: Mapping[str, Sequence[Any]], methods: str) -> dict[str, list[Any]]:
    """Values as their options take them; names that are no option are left to `compare` to complain of."""
    known = {name: option.annotation for name, option in options_of("autodidact.training.settings", "Settings").items()}
    known |= {"encoder": "str", "image_size": "int"}
    for method in members([name.strip() for name in methods.split(",") if name.strip()]):
        known |= {f"method.{name}": option.annotation for name, option in method_options(method).items()}
    found = {}
    for name, values in grid.items():
        try:
            found[name] = [value(each, known.get(name, "str")) if isinstance(each, str) else each for each in values]
        except ValueError as wrong:
            raise ValueError(f"--grid {name} {wrong}") from wrong
    return found


def make_parser() -> Parser:
    """The options of `autodidact.verbs.compare.compare` and of training."""
    return parser_of("compare", "--data DATA --methods A,B,... [options]", MODULE, DOCS, but=("seed",))


def parser_of(verb: str, usage: str, module: str, docs: Mapping[str, str], *, but: Sequence[str] = ()) -> Parser:
    """The options of a verb that trains several arms under one budget, and of training, but for some."""
    parser = Parser(verb, usage, summary_of(module, verb))
    for name, option in options_of(module, verb).items():
        if name != "settings":
            taken = replace(option, name=NAMES.get(name, name), annotation=TEXT.get(name, option.annotation))
            parser.option(taken, doc=docs.get(name), shown=SHOWN.get(name))
    training = parser.add_argument_group("training, the same for all arms; epochs, steps or tokens are the budget")
    for option in options_of("autodidact.training.settings", "Settings").values():
        if option.name not in but:
            parser.option(option, entry=f"settings.{option.name}", group=training)
    return parser
