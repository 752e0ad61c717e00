"""A task in a person's words: instruction, a few demonstrations, and what else a method may use. Read from YAML."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from autodidact.catalog import unknown
from autodidact.data.texts import read_rows
from autodidact.lm.instructions import Instance, Layout, instances_of
from autodidact.lm.judging import JudgeForm
from autodidact.lm.program_tests import ProgramTests
from autodidact.lm.puzzles import FINAL, is_puzzle, puzzle
from autodidact.selection import folded

SPACES = re.compile(r"\s+")


@dataclass(frozen=True)
class Demonstration:
    """An input with the output that is wanted for it."""

    input: str
    output: str


@dataclass(frozen=True)
class Preference:
    """Two answers to one question, of which the first is better.

    Attributes
    ----------
    chosen, rejected : the better answer and the other one.
    prompt : what the model is given, as it is; the answers follow it as they are.
    input : in its place, an input of the task, which is written down as the task's style has it, the answers too.
    """

    chosen: str
    rejected: str
    prompt: str = ""
    input: str = ""

    def __post_init__(self) -> None:
        if bool(self.prompt) == bool(self.input):
            raise ValueError(f"a pair of answers needs a prompt or an input, and not both; got {asdict(self)}")


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
        opening = self.opening.format(instruction=instruction) if instruction or "{" not in self.opening else ""
        return opening + shown + self.question.format(input=question)

    def answer(self, output: str) -> str:
        """An output as a model should write it after a prompt, with what a demonstration has before it (a space)."""
        return self._around[0] + output

    def completion(self, output: str) -> str:
        """The same with the text that ends it, as it ends a demonstration: what a model is trained to write.

        A model that has read demonstrations ends its answers like them. To be taught another end, that of a text, it
        would first have to forget this one, and until then its answers do not end.
        """
        return self.ended(self.answer(output))

    def ended(self, text: str) -> str:
        """What a model wrote up to a text of `stop`, with the text that ends a demonstration behind it."""
        return text + self._around[1]

    def output(self, completion: str) -> str:
        """The output that a completion holds, without what stands around it."""
        return completion.removeprefix(self._around[0]).removesuffix(self._around[1])

    @property
    def _around(self) -> tuple[str, str]:
        """What a demonstration has before its output, and the text that ends it: the first of `stop` behind it."""
        before, _, behind = self.demonstration.removeprefix(self.question).partition("{output}")
        return before.format(), next((text for text in self.stop if behind.format(input="").startswith(text)), "")

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


def spaced(text: str) -> str:
    """A text with single spaces and none at its ends: two that differ in spaces alone are the same input."""
    return " ".join(text.split())


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
    pairs : two answers each of which one is better, where there are some.
    seeds : instructions of their own with inputs and outputs, which methods that make further ones start from.
    test : inputs with outputs, to measure by; never trained on.
    principles : by name.
    checker : how an answer is compared with the wanted one, see `right`; or tests that it passes as a program.
    final : the final answer stands after the last of this text; empty where an output is nothing but the answer.
    style : how it is written down for the model.
    judge : how a judge is asked about answers.
    layout : how instances with instructions of their own are.
    max_tokens, max_input_tokens : at which an answer is cut off, and an input that a model writes.
    """

    instruction: str = ""
    demonstrations: tuple[Demonstration, ...] = ()
    labels: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    examples: tuple[Demonstration, ...] = ()
    pairs: tuple[Preference, ...] = ()
    seeds: tuple[Instance, ...] = ()
    test: tuple[Demonstration, ...] = ()
    principles: Mapping[str, Principle] = field(default_factory=dict)
    checker: str | ProgramTests = "exact"
    final: str = ""
    style: Style = field(default_factory=Style)
    judge: JudgeForm = field(default_factory=JudgeForm)
    layout: Layout = field(default_factory=Layout)
    max_tokens: int = 128
    max_input_tokens: int = 256

    def __post_init__(self) -> None:
        if not self.instruction and not self.demonstrations and not self.seeds:
            raise ValueError("a task needs an instruction or demonstrations, or seeds")
        if not isinstance(self.checker, ProgramTests) and self.checker not in CHECKERS:
            if self.checker == PROGRAM:
                raise ValueError(f"a checker by tests names a file of them: {{{PROGRAM}: tests.py}}")
            raise unknown("checker", self.checker, (*CHECKERS, f"{{{PROGRAM}: FILE.py}}"))
        if min(self.max_tokens, self.max_input_tokens) < 1:
            raise ValueError(
                f"max_tokens and max_input_tokens are at least 1, got {self.max_tokens} and {self.max_input_tokens}"
            )
        if len(set(self.labels)) < len(self.labels) or len(self.labels) == 1:
            raise ValueError(f"labels are two or more different outputs, got {list(self.labels)}")
        for one in (*self.demonstrations, *self.examples, *self.test):
            if self.labels and one.output not in self.labels:
                raise unknown(f"output of {one.input!r}", one.output, self.labels)
        shown = [one.input for one in (*self.demonstrations, *self.examples)]
        shown += [self.layout.question(one) for one in self.seeds]
        tested = self.tested
        if leaked := [text for text in shown if spaced(text) in tested]:
            raise ValueError(f"{min(leaked)!r} is shown with its output and tested too; leave it out of one of them")

    @property
    def tested(self) -> frozenset[str]:
        """The test inputs, each as `spaced` writes it."""
        return frozenset(spaced(one.input) for one in self.test)

    def prompt(self, question: str, demonstrations: Sequence[Demonstration] | None = None) -> str:
        """What a model is given for an input: instruction, demonstrations (all by default), question."""
        return self.style.prompt(
            self.instruction, self.demonstrations if demonstrations is None else demonstrations, question
        )

    def answer(self, output: str) -> str:
        """An output as the model should write it after a prompt."""
        return self.style.answer(output)

    def completion(self, output: str) -> str:
        """The same as a model is trained to write it, with what ends it."""
        return self.style.completion(output)

    def ended(self, text: str) -> str:
        """What a model wrote, as one is trained to write it."""
        return self.style.ended(text)

    def plain(self) -> dict[str, Any]:
        """JSON-ready, for `from_plain`; what was measured by is left out."""
        return {name: value for name, value in asdict(self).items() if name != "test"}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Task:
        """Read back what `plain` wrote."""
        nested: dict[str, Callable[[Any], Any]] = {
            "demonstrations": lambda rows: tuple(Demonstration(**row) for row in rows),
            "examples": lambda rows: tuple(Demonstration(**row) for row in rows),
            "pairs": lambda rows: tuple(Preference(**row) for row in rows),
            "principles": lambda named: {name: Principle(**entry) for name, entry in named.items()},
            "seeds": lambda rows: tuple(Instance(**row) for row in rows),
            "layout": lambda entries: Layout(**entries),
            "style": lambda entries: Style(**{**entries, "stop": tuple(entries["stop"])}),
            "judge": JudgeForm.from_plain,
            "checker": lambda name: name if isinstance(name, str) else ProgramTests(**name),
            "labels": tuple,
            "inputs": tuple,
        }
        return cls(**{name: nested.get(name, lambda same: same)(value) for name, value in plain.items()})

    @property
    def checked_by(self) -> str:
        """The checker's name: one of `CHECKERS`, or "program"."""
        return PROGRAM if isinstance(self.checker, ProgramTests) else self.checker

    def right(self, said: str, wanted: str, given: str = "") -> bool:
        """Whether an answer is the wanted one, by the task's checker.

        "exact": the same but for spaces at the ends and runs of them; "folded": the same in lower case and without
        punctuation too; "number": the last number in it is the wanted one; "contains": the wanted one occurs in it;
        tests: it is a program that passes them, see `ProgramTests`, which may ask for the wanted one. Where the task
        names what stands before a final answer, only that is compared, and an answer without it is wrong.

        Parameters
        ----------
        given : the input, which only tests look at.

        Raises
        ------
        RuntimeError : a program could not be run; see `run_program`.
        """
        if self.final not in said:
            return False
        said, wanted = self._after_final(said), self._after_final(wanted)
        if isinstance(self.checker, ProgramTests):
            return self.checker.passed(said, given, wanted)
        return CHECKERS[self.checker](said, wanted)

    def meant(self, text: str) -> str | None:
        """What an answer comes to: texts that mean the same by the task's checker have the same of it. "contains" takes
        them as "exact" does; of tests they are the same where every character between their ends is.

        None where there is nothing: no final answer, no number of a task of numbers, an empty text.
        """
        if self.final not in text:
            return None
        said = self._after_final(text)
        if isinstance(self.checker, ProgramTests):
            return said.strip() or None
        if self.checker == "number":
            found = _last_number(said)
            return None if found is None else repr(found)
        return (folded(said) if self.checker == "folded" else _plain(said)) or None

    def _after_final(self, text: str) -> str:
        return text.rpartition(self.final)[2] if self.final else text

    def preferences(self) -> list[tuple[str, str, str]]:
        """Prompt, chosen and rejected completion of the task's pairs, as the model reads and should write them."""
        return [
            (one.prompt, one.chosen, one.rejected)
            if one.prompt
            else (self.prompt(one.input), self.completion(one.chosen), self.completion(one.rejected))
            for one in self.pairs
        ]


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
PROGRAM = "program"
"""Names tests in place of such a name."""


def read_task(path: str | Path) -> Task:
    """A task from a YAML file.

    Its entries are the attributes of `Task`; demonstrations are entries of input and output, principles are texts by
    name, or entries of text, negated and weight; pairs are entries of prompt (or input), chosen and rejected.
    ``inputs``, ``examples``, ``pairs``, ``seeds`` and ``test`` may name a file beside it instead: ``.txt`` with an
    input a line, or ``.jsonl`` with such entries. An entry of question, answer, rationale and options is one of input
    and output too, see `autodidact.lm.puzzles.puzzle`; ``final`` is then "Answer:" unless it is given. Seeds are read
    by `autodidact.lm.instructions.instances_of`; another entry that has an instruction beside its input is written down
    with it as the layout has it. In place of a name, ``checker`` may be entries: ``program``, a file of tests beside
    the task, ``seconds`` and ``memory_mb``, see `ProgramTests`; an empty program is tested at once, so that tests which
    tell nothing are noticed.

    Raises
    ------
    FileNotFoundError : there is no such file, or no such file of tests.
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
    try:
        given = _rows_written_out({name: value for name, value in read.items() if value is not None}, path)
        given = _posed(given, path)
        task = Task(**{name: _READERS.get(name, _as_is)(value, path) for name, value in given.items()})
        if isinstance(task.checker, ProgramTests):
            first = next(iter((*task.test, *task.examples)), None)
            task.checker.must_tell(*((first.input, first.output) if first else task.inputs[:1]))
        return task
    except (ValueError, TypeError) as wrong:
        raise ValueError(f"{path}: {wrong}") from wrong


def _rows_written_out(given: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The entries with the rows of the files that they name, puzzles among them as inputs and outputs."""
    found = {
        name: read_rows(path.parent / value) if name in _LISTS and isinstance(value, str) else value
        for name, value in given.items()
    }
    lists = {name: rows for name, rows in found.items() if name in _LISTS and isinstance(rows, list)}
    if any(is_puzzle(row) for rows in lists.values() for row in rows):
        found.setdefault("final", FINAL)
        for name, rows in lists.items():
            place = partial(_place, given[name], name, path)
            found[name] = [_as_puzzle(row, str(found["final"]), place, k) for k, row in enumerate(rows)]
    return found


def _as_puzzle(row: Any, final: str, place: Callable[[int], str], number: int) -> Any:
    try:
        return puzzle(row, final) if is_puzzle(row) else row
    except ValueError as wrong:
        raise ValueError(f"{place(number)}: {wrong}") from wrong


def _place(value: Any, name: str, path: Path, row: int) -> str:
    """Where a row of an entry stands: its line in the file that the entry names, else its number in the entry."""
    if not isinstance(value, str):
        return f"row {row + 1} of {name}"
    lines = (path.parent / value).read_bytes().decode().split("\n")
    return f"line {[k for k, line in enumerate(lines, 1) if line.strip()][row]} of {value}"


_LISTS = ("demonstrations", "examples", "inputs", "pairs", "seeds", "test")


def _posed(given: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The entries, where inputs that have instructions of their own are written down as the layout has it."""
    layout = _layout(given.get("layout") or {}, path)

    def posed(row: Any) -> Any:
        if not isinstance(row, dict) or "instruction" not in row:
            return row
        (one,) = instances_of({"output": "", **row})
        return {name: value for name, value in row.items() if name != "instruction"} | {"input": layout.question(one)}

    return {
        name: [posed(row) for row in rows] if name in _LISTS and name != "seeds" and isinstance(rows, list) else rows
        for name, rows in given.items()
    }


def _as_is(value: Any, _: Path) -> Any:
    if isinstance(value, dict | list):
        raise ValueError(f"a text or number was expected, got {value}")
    return value


def _demonstrations(value: Any, _: Path) -> tuple[Demonstration, ...]:
    return tuple(_demonstration(row) for row in _listed(value, "input and output"))


def _demonstration(row: Any) -> Demonstration:
    if not isinstance(row, dict) or set(row) != {"input", "output"}:
        raise ValueError(f"an entry of input and output was expected, got {row}")
    return Demonstration(str(row["input"]), str(row["output"]))


def _inputs(value: Any, _: Path) -> tuple[str, ...]:
    return tuple(str(row["input"] if isinstance(row, dict) else row) for row in _listed(value, "inputs"))


def _pairs(value: Any, _: Path) -> tuple[Preference, ...]:
    rows = _listed(value, "prompt, chosen and rejected")
    return tuple(Preference(**{name: str(text) for name, text in _pair(row).items()}) for row in rows)


def _pair(row: Any) -> dict[str, Any]:
    if not isinstance(row, dict) or not {"chosen", "rejected"} <= set(row) <= {"chosen", "rejected", "prompt", "input"}:
        raise ValueError(f"an entry of prompt (or input), chosen and rejected was expected, got {row}")
    return row


def _seeds(value: Any, _: Path) -> tuple[Instance, ...]:
    return tuple(one for row in _listed(value, "instruction, input and output") for one in instances_of(row))


def _texts(value: Any, _: Path) -> tuple[str, ...]:
    return tuple(str(one) for one in _listed(value, "texts"))


def _principles(value: Any, _: Path) -> dict[str, Principle]:
    if not isinstance(value, dict):
        raise ValueError(f"principles are texts by name, got {value}")
    return {
        str(name): Principle(**_entries(one, Principle)) if isinstance(one, dict) else Principle(str(one))
        for name, one in value.items()
    }


def _checker(value: Any, path: Path) -> str | ProgramTests:
    if not isinstance(value, dict):
        return str(_as_is(value, path))
    known = (PROGRAM, *(entry.name for entry in fields(ProgramTests) if entry.name != "tests"))
    for name in value:
        if name not in known:
            raise unknown("entry of a checker", str(name), known)
    limits = dict(value)
    named = limits.pop(PROGRAM, None)
    if not isinstance(named, str):
        raise ValueError(f"a checker by tests names a file of them: {{{PROGRAM}: tests.py}}; got {value}")
    return ProgramTests.read(path.parent / named, **limits)


def _style(value: Any, _: Path) -> Style:
    if not isinstance(value, dict):
        raise ValueError(f"style has entries such as question, got {value}")
    given = _entries(value, Style)
    if "stop" in given:
        given["stop"] = tuple([given["stop"]] if isinstance(given["stop"], str) else given["stop"])
    return Style(**given)


def _layout(value: Any, _: Path) -> Layout:
    if not isinstance(value, dict):
        raise ValueError(f"layout has entries such as with_input, got {value}")
    return Layout(**_entries(value, Layout))


def _judge(value: Any, _: Path) -> JudgeForm:
    if not isinstance(value, dict):
        raise ValueError(f"judge has entries such as rating, got {value}")
    return JudgeForm.from_plain(_entries(value, JudgeForm))


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


_READERS = {
    "demonstrations": _demonstrations,
    "examples": _demonstrations,
    "test": _demonstrations,
    "inputs": _inputs,
    "checker": _checker,
    "pairs": _pairs,
    "labels": _texts,
    "principles": _principles,
    "seeds": _seeds,
    "style": _style,
    "judge": _judge,
    "layout": _layout,
}
