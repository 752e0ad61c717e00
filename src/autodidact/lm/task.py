"""A task in a person's words: instruction, a few demonstrations, and what else a method may use. Read from YAML."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from autodidact.catalog import unknown
from autodidact.selection import folded

SPACES = re.compile(r"\s+")


@dataclass(frozen=True)
class Demonstration:
    """An input with the output that is wanted for it."""

    input: str
    output: str


@dataclass(frozen=True)
class Style:
    """How a task is written down for a model.

    Attributes
    ----------
    opening : what a prompt begins with; ``{instruction}`` stands for the instruction.
    demonstration : one demonstration, with ``{input}`` and ``{output}``. It begins as `question` does.
    question : what is asked, with ``{input}``; the model writes what follows.
    stop : texts that end an answer.
    inputs_opening : what a request for a further input begins with, with ``{instruction}``.
    inputs_item : one known input, with ``{input}``.
    inputs_ask : asks for the next one; the model writes what follows.
    inputs_ask_labelled : the same for an input whose output is to be ``{label}``.
    """

    opening: str = "{instruction}\n\n"
    demonstration: str = "Input: {input}\nOutput: {output}\n\n"
    question: str = "Input: {input}\nOutput:"
    stop: tuple[str, ...] = ("\n",)
    inputs_opening: str = "{instruction}\n\nInputs for this task, each of them new and different:\n\n"
    inputs_item: str = "Input: {input}\n\n"
    inputs_ask: str = "Input:"
    inputs_ask_labelled: str = "Input with the output {label}:"

    def __post_init__(self) -> None:
        for name, allowed in _PLACES.items():
            try:
                used = {place for _, place, _, _ in string.Formatter().parse(getattr(self, name)) if place is not None}
            except ValueError as broken:
                raise ValueError(f"style.{name} is no template ({broken}); a brace is written twice") from broken
            if not used <= allowed or (used != allowed and "instruction" not in allowed):
                wanted = " and ".join(f"{{{place}}}" for place in sorted(allowed)) or "no place"
                raise ValueError(f"style.{name} must name {wanted} and nothing else, got {getattr(self, name)!r}")
        if not self.demonstration.startswith(self.question):
            raise ValueError(
                f"style.demonstration must begin as style.question does, got {self.demonstration!r} and "
                f"{self.question!r}"
            )

    def prompt(self, instruction: str, demonstrations: Sequence[Demonstration], question: str) -> str:
        """The whole prompt for one input."""
        shown = "".join(self.demonstration.format(input=one.input, output=one.output) for one in demonstrations)
        return self.opening.format(instruction=instruction) + shown + self.question.format(input=question)

    def answer(self, output: str) -> str:
        """An output as a model should write it after a prompt, with what a demonstration has before it (a space)."""
        lead = self.demonstration.removeprefix(self.question).partition("{output}")[0]
        return lead.format() + output

    def request(self, instruction: str, inputs: Sequence[str], label: str = "") -> str:
        """The prompt that asks for an input beside those that are known."""
        shown = "".join(self.inputs_item.format(input=one) for one in inputs)
        ask = self.inputs_ask_labelled.format(label=label) if label else self.inputs_ask.format()
        return self.inputs_opening.format(instruction=instruction) + shown + ask


_PLACES: dict[str, set[str]] = {
    "opening": {"instruction"},
    "demonstration": {"input", "output"},
    "question": {"input"},
    "inputs_opening": {"instruction"},
    "inputs_item": {"input"},
    "inputs_ask": set(),
    "inputs_ask_labelled": {"label"},
}


@dataclass(frozen=True)
class Principle:
    """What makes an answer good, and the opposite of it.

    Attributes
    ----------
    text : the principle in words.
    negated : its opposite in words; empty where nobody said it.
    weight : how often it is drawn among the others, above 0.
    """

    text: str
    negated: str = ""
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not self.text or not self.weight > 0:
            raise ValueError(f"a principle needs a text and a weight above 0, got {self.text!r} and {self.weight}")


@dataclass(frozen=True)
class Task:
    """What a language model is to become better at.

    Attributes
    ----------
    instruction : in a person's words.
    demonstrations : a few inputs with their outputs.
    labels : the possible outputs, of a classification; empty otherwise.
    inputs : inputs without outputs, where there are some.
    examples : inputs with outputs to train on, where there are some.
    test : inputs with outputs, to measure by; never trained on.
    principles : by name.
    checker : how an answer is compared with the wanted one, see `right`.
    style : how it is written down for the model.
    max_tokens, max_input_tokens : at which an answer is cut off, and an input that a model writes.
    """

    instruction: str = ""
    demonstrations: tuple[Demonstration, ...] = ()
    labels: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    examples: tuple[Demonstration, ...] = ()
    test: tuple[Demonstration, ...] = ()
    principles: Mapping[str, Principle] = field(default_factory=dict)
    checker: str = "exact"
    style: Style = field(default_factory=Style)
    max_tokens: int = 128
    max_input_tokens: int = 256

    def __post_init__(self) -> None:
        if not self.instruction and not self.demonstrations:
            raise ValueError("a task needs an instruction or demonstrations")
        if self.checker not in CHECKERS:
            raise unknown("checker", self.checker, CHECKERS)
        if min(self.max_tokens, self.max_input_tokens) < 1:
            raise ValueError(
                f"max_tokens and max_input_tokens are at least 1, got {self.max_tokens} and {self.max_input_tokens}"
            )
        if len(set(self.labels)) < len(self.labels) or len(self.labels) == 1:
            raise ValueError(f"labels are two or more different outputs, got {list(self.labels)}")
        for one in (*self.demonstrations, *self.examples, *self.test):
            if self.labels and one.output not in self.labels:
                raise unknown(f"output of {one.input!r}", one.output, self.labels)
        shown = {one.input for one in (*self.demonstrations, *self.examples)}
        if leaked := {one.input for one in self.test} & shown:
            raise ValueError(f"{min(leaked)!r} is shown with its output and tested too; leave it out of one of them")

    def prompt(self, question: str, demonstrations: Sequence[Demonstration] | None = None) -> str:
        """What a model is given for an input: instruction, demonstrations (all by default), question."""
        return self.style.prompt(
            self.instruction, self.demonstrations if demonstrations is None else demonstrations, question
        )

    def answer(self, output: str) -> str:
        """An output as the model should write it after a prompt."""
        return self.style.answer(output)

    def plain(self) -> dict[str, Any]:
        """JSON-ready, for `from_plain`; what was measured by is left out."""
        return {name: value for name, value in asdict(self).items() if name != "test"}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Task:
        """Read back what `plain` wrote."""
        nested = {
            "demonstrations": lambda rows: tuple(Demonstration(**row) for row in rows),
            "examples": lambda rows: tuple(Demonstration(**row) for row in rows),
            "principles": lambda named: {name: Principle(**entry) for name, entry in named.items()},
            "style": lambda entries: Style(**{**entries, "stop": tuple(entries["stop"])}),
            "labels": tuple,
            "inputs": tuple,
        }
        return cls(**{name: nested.get(name, lambda same: same)(value) for name, value in plain.items()})

    def right(self, said: str, wanted: str) -> bool:
        """Whether an answer is the wanted one, by the task's checker.

        "exact": the same but for spaces at the ends and runs of them; "folded": the same in lower case and without
        punctuation too; "number": the last number in it is the wanted one; "contains": the wanted one occurs in it.
        """
        return CHECKERS[self.checker](said, wanted)


def _plain(text: str) -> str:
    return SPACES.sub(" ", text).strip()


def _last_number(text: str) -> float | None:
    found = re.findall(r"-?\d+(?:\.\d+)?", text.replace(",", ""))
    return float(found[-1]) if found else None


CHECKERS = {
    "exact": lambda said, wanted: _plain(said) == _plain(wanted),
    "folded": lambda said, wanted: folded(said) == folded(wanted),
    "number": lambda said, wanted: _last_number(said) is not None and _last_number(said) == _last_number(wanted),
    "contains": lambda said, wanted: _plain(wanted) in _plain(said),
}
"""Name -> whether an answer counts as the wanted one."""


def read_task(path: str | Path) -> Task:
    """A task from a YAML file.

    Its entries are the attributes of `Task`; demonstrations are entries of input and output, principles are texts by
    name, or entries of text, negated and weight. ``inputs``, ``examples`` and ``test`` may name a file beside it
    instead: ``.txt`` with an input a line, or ``.jsonl`` with objects of input (and output).

    Raises
    ------
    FileNotFoundError : there is no such file.
    ValueError : it is not YAML, has an entry that a task does not have, or one that makes no sense.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such task file: {path}")
    try:
        read = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as broken:
        raise ValueError(f"{path} is not YAML: {' '.join(str(broken).split())}") from broken
    if not isinstance(read, dict):
        raise ValueError(f"{path} must hold entries such as 'instruction: ...', it holds {type(read).__name__}")
    known = {entry.name for entry in fields(Task)}
    for name in read:
        if name not in known:
            raise unknown(f"entry of {path.name}", str(name), known)
    given = {name: value for name, value in read.items() if value is not None}
    try:
        return Task(**{name: _READERS.get(name, _as_is)(value, path) for name, value in given.items()})
    except (ValueError, TypeError) as wrong:
        raise ValueError(f"{path}: {wrong}") from wrong


def _as_is(value: Any, _: Path) -> Any:
    if isinstance(value, dict | list):
        raise ValueError(f"a text or number was expected, got {value}")
    return value


def _demonstrations(value: Any, path: Path) -> tuple[Demonstration, ...]:
    rows = _file_of(value, path) if isinstance(value, str) else value
    return tuple(_demonstration(row) for row in _listed(rows, "input and output"))


def _demonstration(row: Any) -> Demonstration:
    if not isinstance(row, dict) or set(row) != {"input", "output"}:
        raise ValueError(f"an entry of input and output was expected, got {row}")
    return Demonstration(str(row["input"]), str(row["output"]))


def _inputs(value: Any, path: Path) -> tuple[str, ...]:
    rows = _file_of(value, path) if isinstance(value, str) else value
    return tuple(str(row["input"] if isinstance(row, dict) else row) for row in _listed(rows, "inputs"))


def _texts(value: Any, _: Path) -> tuple[str, ...]:
    return tuple(str(one) for one in _listed(value, "texts"))


def _principles(value: Any, _: Path) -> dict[str, Principle]:
    if not isinstance(value, dict):
        raise ValueError(f"principles are texts by name, got {value}")
    return {
        str(name): Principle(**_entries(one, Principle)) if isinstance(one, dict) else Principle(str(one))
        for name, one in value.items()
    }


def _style(value: Any, _: Path) -> Style:
    if not isinstance(value, dict):
        raise ValueError(f"style has entries such as question, got {value}")
    given = _entries(value, Style)
    if "stop" in given:
        given["stop"] = tuple([given["stop"]] if isinstance(given["stop"], str) else given["stop"])
    return Style(**given)


def _entries(given: Mapping[str, Any], cls: type) -> dict[str, Any]:
    known = {entry.name for entry in fields(cls)}
    for name in given:
        if name not in known:
            raise unknown(f"entry of a {cls.__name__.lower()}", str(name), known)
    return dict(given)


def _listed(value: Any, what: str) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"a list of {what} was expected, got {value!r}")
    return value


def _file_of(name: str, task: Path) -> list[Any]:
    path = task.parent / name
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    if path.suffix == ".txt":
        return [line for line in path.read_text().splitlines() if line.strip()]
    if path.suffix != ".jsonl":
        raise ValueError(f"{name} must end in .txt or .jsonl")
    rows = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as broken:
            raise ValueError(f"line {number} of {name} is not JSON: {broken}") from broken
    return rows


_READERS = {
    "demonstrations": _demonstrations,
    "examples": _demonstrations,
    "test": _demonstrations,
    "inputs": _inputs,
    "labels": _texts,
    "principles": _principles,
    "style": _style,
}
