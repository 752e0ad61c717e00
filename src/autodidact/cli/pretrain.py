"""``autodidact pretrain METHOD --data D --encoder E --out DIR``."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autodidact.catalog import options, trained
from autodidact.catalog.signature import Option, options_of
from autodidact.cli.parser import Parser
from autodidact.cli.words import DATA, ENCODER, LABELS
from autodidact.training.processes import first_process

if TYPE_CHECKING:
    from autodidact.training.cost import Forecast

APART = ("method", "settings", "method_arguments")
NAMING_A_METHOD = ("Method", "Method | str", "str | Mapping[str, Any]")
"""Annotations of options that are another method, see `recipes.names.MethodSpec`."""
DOCS = {
    "data": DATA,
    "encoder": ENCODER,
    "encoder_arguments": "further arguments of the encoder, each as --encoder.NAME VALUE",
    "labels": f"{LABELS}. For the online kNN monitor only, unless the method declares that it learns from labels",
}
PLAN = (
    "train nothing: say what the same command without it would cost, in time and memory, from a few updates on this "
    "device, or on all that the command would take if this machine has them. No run is written"
)
SHOWN = {"data": "DATA", "encoder": "NAME", "out": "DIR", "image_size": "PX", "pretrained": "[FILE]", "labels": "WHERE"}


def run(argv: Sequence[str]) -> None:
    """Parse, train, say where the result is."""
    words = encoder_words(argv)
    method = method_of(words)
    given = make_parser(method).take(method_words(words, method))
    for name in ("config", "verb"):
        given.pop(name, None)
    if not method:
        raise ValueError("which method? autodidact pretrain METHOD ...; autodidact methods lists them")
    if given["data"] is None:
        raise ValueError(f"pretrain needs data: autodidact pretrain {method} --data FOLDER")
    from autodidact.training import Settings
    from autodidact.verbs.pretrain import pretrain, run_folder

    arguments = {**given, "method": method, "settings": Settings(**given["settings"])}
    if arguments.pop("plan"):
        from autodidact.verbs.plan import plan

        for name in ("out", "fresh", "force", "until", "report"):
            del arguments[name]
        forecast = plan(**arguments, together=True)
        if first_process():
            print(told(method, forecast, arguments["settings"].length))
        return
    out = Path(given["out"]) if given["out"] else run_folder(method, given["data"])
    if not first_process():
        # What the first process has made anew by now is the run to take part in.
        arguments |= {"fresh": False, "force": False}
    pretrain(**{**arguments, "out": out})
    if given.get("until", 1) < 1:
        print(f"{method}: paused in {out}; the same command without --until goes on")
        return
    drawn = out / "report.html"
    print(f"{method}: the model is in {out / 'model'}" + (f", the report is {drawn}" if drawn.exists() else ""))
    print(f"next: autodidact evaluate {out} --data LABELLED --labels 1%")


def told(method: str, cost: Forecast, length: str) -> str:
    """A forecast as lines for a terminal.

    Parameters
    ----------
    length : of the training, in words.
    """
    from autodidact.report.markup import duration
    from autodidact.training.cost import DELAY, LINK

    def bytes_of(count: float) -> str:
        return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"

    def short(seconds: float) -> str:
        return f"{1000 * seconds:.0f} ms" if seconds < 1 else duration(seconds)

    rooms = f"{cost.parts * cost.devices} times {cost.share:,}" if cost.parts * cost.devices > 1 else f"{cost.share:,}"
    tried = "measured" if cost.measured else f"on the line through batches of {cost.sizes[-2]:,} and {cost.sizes[-1]:,}"
    if cost.together:
        tried += f", {cost.devices} devices together, what they exchange included"
    lines = [
        ("an update", f"{short(cost.update())} for {rooms} samples ({tried})"),
        ("memory", f"{bytes_of(cost.memory_of(cost.share))} of {bytes_of(cost.memory)}, on each device"),
    ]
    fixed = f"weights {bytes_of(cost.weights)}, optimiser and averages {bytes_of(cost.state)}"
    lines.append(("", f"{fixed}, the rest grows with the batch: about {cost.most():,} samples at once fit"))
    if cost.devices > 1 and not cost.together:
        waits = f"in {cost.parts * cost.messages:,} messages, at {LINK / 1e9:g} GB/s and {1e6 * DELAY:g} us"
        lines.insert(1, ("", f"of which {short(cost.exchange())} for exchanging {bytes_of(cost.exchanged)} {waits}"))
    if cost.sweep >= 0.1:
        again = f", again every {cost.sweep_every:,} updates" if cost.sweep_every else ""
        lines.append(("at first", f"{duration(cost.sweep)} to look at all samples{again}"))
    if cost.epoch_steps:
        epoch = f"{duration(cost.epoch_steps * cost.update())}: {cost.epoch_steps:,} updates"
        lines.append(("an epoch", f"{epoch}, {cost.samples:,} samples"))
    if cost.steps:
        lines.append(("in all", f"{duration(cost.seconds_of(cost.steps))} for {length}"))
    return "\n".join([f"{method}: what it would cost", *(f"  {name:<10} {said}" for name, said in lines)])


def method_of(words: Sequence[str]) -> str:
    """The method that a command line names: its first bare word, else the entry of its configuration file."""
    rest = make_parser("").canonical([w for w in words if w not in ("-h", "--help")], free=("--",))
    config = ""
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            return word
        value = word.partition("=")[2] if "=" in word else rest.pop(0) if rest and word != "--print-config" else ""
        if word.partition("=")[0] == "--config":
            config = value
    return _configured(config) if config else ""


def _configured(path: str) -> str:
    import yaml

    if not Path(path).is_file():
        raise FileNotFoundError(f"no such configuration file: {path}")
    try:
        read = yaml.safe_load(Path(path).read_text())
    except yaml.YAMLError as broken:
        raise ValueError(f"{path} is not YAML: {broken}") from broken
    return str(read.get("method") or "") if isinstance(read, dict) else ""


def encoder_words(argv: Sequence[str]) -> list[str]:
    """``--encoder SLOT=NAME`` as the slot's own option, ``--encoder.KEY VALUE`` as an argument of the encoder."""
    words = list(argv)
    for i, word in enumerate(words):
        name, equals, value = word.partition("=")
        following = words[i + 1] if i + 1 < len(words) else ""
        if name == "--encoder" and equals and re.match(r"[A-Za-z_]\w*=", value):
            words[i] = f"--encoder.{value}"
        elif name == "--encoder" and not equals and re.match(r"[A-Za-z_]\w*=", following):
            words[i : i + 2] = [f"--encoder.{following}"]
        elif name.startswith("--encoder."):
            words[i] = f"--encoder_arguments.{word.removeprefix('--encoder.')}"
    return words


def method_words(argv: Sequence[str], method: str) -> list[str]:
    """``--method.X NAME --method.X.KEY VALUE``, options of the method that the option X names, as one option."""
    known = method_options(method) if method else {}
    rest, inner = list[str](), dict[str, dict[str, Any]]()
    left = list(argv)
    while left:
        word = left.pop(0)
        found = re.fullmatch(r"--method\.(\w+)\.([\w-]+)(?:=(.*))?", word, re.DOTALL)
        if found is None or found.group(1) not in known or known[found.group(1)].annotation not in NAMING_A_METHOD:
            rest.append(word)
            continue
        option, key, value = found.groups()
        if value is None:
            value = left.pop(0) if left and not left[0].startswith("--") else "true"
        inner.setdefault(option, {})[key.replace("-", "_")] = _read(value)
    for option, given in inner.items():
        named = _read(_taken(rest, f"--method.{option}") or str(known[option].default))
        entries = named if isinstance(named, dict) else {"name": named}
        rest.append(f"--method.{option}={json.dumps({**entries, **given})}")
    return rest


def _taken(words: list[str], flag: str) -> str:
    """The value of an option, which is removed from the words; empty where it is not among them."""
    for i, word in enumerate(words):
        if word.startswith(f"{flag}="):
            return words.pop(i).partition("=")[2]
        if word == flag and i + 1 < len(words):
            words.pop(i)
            return words.pop(i)
    return ""


def _read(value: str) -> Any:
    import yaml

    return yaml.safe_load(value)


def make_parser(method: str) -> Parser:
    """The options of pretraining, and of one method where it is named."""
    about = "Pretrain an encoder on unlabelled data. A run that exists in --out is gone on with."
    parser = Parser("pretrain", f"{method or 'METHOD'} --data DATA [options]", about)
    parser.positional("method", "name of the method (autodidact methods lists them), or file.py:Class for your own")
    parser.add_argument("--verb", type=str, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    own = {
        name: option
        for name, option in options_of("autodidact.verbs.pretrain", "pretrain").items()
        if name not in APART
    }
    parser.options(own, docs=DOCS, shown=SHOWN, group=parser.add_argument_group("data, encoder and run folder"))
    planned = Option("plan", "bool", False, PLAN)
    parser.option(planned)
    training = parser.add_argument_group("training")
    for option in options_of("autodidact.training.settings", "Settings").values():
        parser.option(option, entry=f"settings.{option.name}", group=training)
    if not method:
        parser.epilog = "autodidact pretrain METHOD --help explains the options of a method, --method.NAME VALUE."
        return parser
    listed = parser.add_argument_group(f"options of {method}")
    for option in method_options(method).values():
        entry = f"method_arguments.{option.name}"
        parser.option(option, prefix="--method.", entry=entry, group=listed, given_only=True)
    return parser


def method_options(method: str) -> dict[str, Option]:
    """What a user may set of a method or recipe, from its source."""
    path, own, cls = method.rpartition(".py:")
    if own:
        if not Path(f"{path}.py").is_file():
            raise FileNotFoundError(f"no such file: {path}.py")
        return {n: option for n, option in options_of(Path(f"{path}.py"), cls).items() if not option.positional}
    return options(trained(method))
