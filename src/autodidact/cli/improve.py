"""``autodidact improve METHOD --model NAME --task task.yaml --out DIR``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from autodidact.catalog.signature import options_of
from autodidact.cli.parser import Parser
from autodidact.cli.pretrain import method_of, method_options
from autodidact.training.language import ADAPTER_LR, TRAINING

MODULE = "autodidact.verbs.improve"
APART = ("method", "settings", "method_arguments")
UNFIT = ("tokens", "recompute", "sharding", "monitor_steps")
"""Settings that are about encoders."""
SHOWN = {
    "model": "NAME",
    "task": "FILE",
    "out": "DIR",
    "student": "NAME",
    "adapter": "RANK",
    "timeout": "SECONDS",
    "key": "VARIABLE",
}
TRAINING_DOCS = {
    "epochs": f"passes over the data; default {TRAINING['epochs']}, unless `steps` is given",
    "lr": "peak learning rate, for exactly this batch size (it is not rescaled); default "
    f"{TRAINING['lr']:g}, and {ADAPTER_LR:g} where an adapter learns",
}
"""Of the settings whose defaults are others here than in an encoder's training."""
DOCS = {
    "model": "what generates: a folder of transformers, a name on the hub, a run of this verb, or "
    "http://ADDRESS/v1#MODEL for an OpenAI-compatible address",
    "task": "YAML file with an instruction, a few demonstrations of input and output, and what else the method may use "
    "(labels, inputs, examples, test, principles, checker, style); docs/language.md explains them",
}


def run(argv: Sequence[str]) -> None:
    """Parse, improve, say where the result is."""
    method = method_of(argv)
    given = make_parser(method).take(argv)
    given.pop("config", None)
    if not method:
        raise ValueError("which method? autodidact improve METHOD ...; autodidact methods lists them")
    for name in ("model", "task"):
        if given.get(name) is None:
            raise ValueError(f"improve needs a {name}: autodidact improve {method} --model NAME --task task.yaml")
    from autodidact.verbs.improve import improve, run_folder

    given["out"] = given["out"] or run_folder(method, given["task"])
    arguments = {**given, "method": method}
    kept = improve(**arguments)
    out = arguments["out"]
    hf = f", for transformers in {out}/hf" if (Path(out) / "hf").is_dir() else ""
    print(f"{method}: the model is in {out}/model{hf}" + _said(out))
    if "generate" in kept.abilities:
        print(f"next: autodidact apply {out} --ability generate --data INPUTS.txt --out answers.jsonl")
    else:
        print(f"next: autodidact apply {out} --ability score --data ANSWERS.jsonl --out scores.jsonl")


def _said(out: str) -> str:
    """The first sentence of the comparison, where there is one."""
    from autodidact.evaluation.table import Table

    path = Path(out) / "evaluations" / "task.json"
    drawn = Path(out) / "report.html"
    said = f", the report is {drawn}" if drawn.exists() else ""
    return said + (f"\n{Table.load(path).about['sentence']}" if path.is_file() else "")


def make_parser(method: str) -> Parser:
    """The options of improving, and of one method where it is named."""
    about = "Improve a language model at a task. A run that exists in --out is gone on with."
    parser = Parser("improve", f"{method or 'METHOD'} --model NAME --task task.yaml [options]", about)
    parser.positional("method", "name of the method (autodidact methods lists them), or file.py:Class for your own")
    asked = {name: option for name, option in options_of(MODULE, "improve").items() if name not in APART}
    parser.options(asked, docs=DOCS, shown=SHOWN, group=parser.add_argument_group("model, task and run folder"))
    group = parser.add_argument_group("training")
    for option in options_of("autodidact.training.settings", "Settings").values():
        if option.name in UNFIT:
            continue
        own = replace(option, default=TRAINING.get(option.name, option.default))
        doc = TRAINING_DOCS.get(option.name)
        parser.option(own, entry=f"settings.{option.name}", group=group, doc=doc, given_only=True)
    if not method:
        parser.epilog = "autodidact improve METHOD --help explains the options of a method, --method.NAME VALUE."
        return parser
    listed = parser.add_argument_group(f"options of {method}")
    for option in method_options(method).values():
        parser.option(
            option, prefix="--method.", entry=f"method_arguments.{option.name}", group=listed, given_only=True
        )
    return parser
