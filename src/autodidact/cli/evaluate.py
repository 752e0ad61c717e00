"""``autodidact evaluate RUN --data D --labels 1% --protocol knn,linear --seeds 5``; without a run, of data alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from autodidact.catalog.signature import options_of, summary_of
from autodidact.cli.figures import interval, print_differences, print_table
from autodidact.cli.parser import Parser
from autodidact.cli.words import DATA, LABELS

MODULE = "autodidact.verbs.evaluate"
SHOWN = {
    "data": "DATA",
    "test": "DATA",
    "shift": "DATA",
    "labels": "BUDGET",
    "json": "FILE",
    "picture": "FILE.svg",
    "baselines": "A,B,...",
    "label_from": "WHERE",
    "group": "WHERE",
    "harmful": "A,B,...",
}


def run(argv: Sequence[str]) -> None:
    """Parse, measure, print the table and the differences to the baselines; or what data alone shows."""
    given = make_parser().take(argv)
    given.pop("config", None)
    if not given.get("run") and given["data"] is not None and _of_data(given["protocol"]):
        _examine(given)
        return
    if not given.get("run") or given["data"] is None:
        raise ValueError("evaluate needs a run and labelled data: autodidact evaluate RUN --data DATA")
    if given.pop("picture") is not None:
        raise ValueError("--picture draws what a protocol finds in data alone; of a run there is autodidact report")
    from autodidact.evaluation.finetune import Tuning
    from autodidact.verbs.evaluate import SHIFT, evaluate

    tuning = Tuning(**given.pop("tuning"))
    table = evaluate(given.pop("run"), given.pop("data"), protocols=given.pop("protocol"), tuning=tuning, **given)
    about = table.about
    print_table(
        table,
        f"{about['figures']} on {about['tested']} test rows"
        + (f", shift: on {about['shifted']} rows of {about['shift']}" if "shift" in about else "")
        + f"; {about['labelled']} of {about['train']} labels, "
        f"{len(table.seeds('pretrained', table.metrics[0]))} draws, 95 % intervals",
    )
    for end, where in (("", ""), ("_shift", f" on {about.get('shift')}")):
        if few := about.get(f"groups_too_small{end}"):
            small = ", ".join(f"{name} ({about[f'groups{end}'][name]} rows)" for name in few)
            least = about["group_min"]
            print(f"\nnot counted for the worst group and the gap{where}, with fewer than {least} rows: {small}")
    print_differences(table, [("pretrained", arm) for arm in table.arms if arm != "pretrained"])
    lost = [
        f"  {arm}  {metric}  {interval(table.difference(arm, arm, metric + SHIFT, metric))}"
        for metric in table.metrics
        for arm in table.arms
        if metric + SHIFT in table.metrics and set(table.seeds(arm, metric)) & set(table.seeds(arm, metric + SHIFT))
    ]
    if lost:
        print("\n".join(("\nshifted rows - test rows:", *lost)))
    if given["json"]:
        print(f"\nwritten to {given['json']}")


def _of_data(protocols: str | None) -> bool:
    """Whether a protocol was asked for that does not measure a model: one of data alone, or one that is mistyped."""
    if not protocols:
        return False
    from autodidact.evaluation.protocols import PROTOCOLS

    return not {name.strip() for name in protocols.split(",")} <= set(PROTOCOLS)


def _examine(given: dict[str, Any]) -> None:
    """What data alone shows, in plain words; options that mean nothing here are errors, not silence."""
    from autodidact.verbs.examine import examine

    used, left_alone = options_of("autodidact.verbs.examine", "examine"), make_parser().take([])
    for name, value in given.items():
        if name not in used and name not in ("run", "protocol") and value != left_alone[name]:
            raise ValueError(f"--{name.replace('_', '-')} is of no use to protocol '{given['protocol']}'")
    own = {name: given[name] for name in ("data", "json", "picture", "quiet")}
    for examination in examine(protocols=given["protocol"], **own).values():
        print(examination.text)
    for file in filter(None, (given["json"], given["picture"])):
        print(f"\nwritten to {file}")


def make_parser() -> Parser:
    """The options of `autodidact.verbs.evaluate.evaluate`, and how networks are tuned as ``--tuning.NAME``."""
    own = options_of(MODULE, "evaluate")
    parser = Parser("evaluate", "[RUN] --data DATA [options]", summary_of(MODULE, "evaluate"))
    parser.positional("run", "run folder or model folder; none for a protocol that looks at data alone")
    parser.option(own["data"], doc=f"labelled data: {DATA}", shown="DATA")
    of_data = options_of("autodidact.verbs.examine", "examine")
    alone = of_data["protocols"].doc
    protocols = replace(own["protocols"], name="protocol", annotation="str | None")
    parser.option(protocols, doc=f"{protocols.doc} Without a run, of data alone: {alone}", shown="A,B,...")
    parser.options(own, but=("run", "data", "protocols", "tuning"), docs={"label_from": LABELS}, shown=SHOWN)
    parser.option(of_data["picture"], shown=SHOWN["picture"])
    group = parser.add_argument_group("training of whole networks: finetune, finetune+distill and the baseline scratch")
    for option in options_of("autodidact.evaluation.finetune", "Tuning").values():
        if option.name != "accelerator":
            parser.option(option, prefix="--tuning.", entry=f"tuning.{option.name}", group=group)
    return parser
