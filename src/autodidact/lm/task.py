"""A task in a person's words: instruction, a few demonstrations, and what else a method may use."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from autodidact.catalog import unknown
from autodidact.lm.instructions import Instance, Layout
from autodidact.lm.judging import JudgeForm
from autodidact.lm.program_tests import ProgramTests
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
