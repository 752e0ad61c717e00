"""Tasks with instructions of their own: how they are shown to a model, and read back from what it writes."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

Kind = Literal["with input", "alone", "any"]
"""Instances that have an input, that have none, or of which some do."""
SPACES = re.compile(r"\s+")
BEYOND_TEXT = re.compile(
    r"\b(images?|graphs?|pictures?|photos?|files?|maps?|draw|plots?|videos?|audio|music|flowcharts?|diagrams?)\b"
)
"""What an instruction names that a model of text can neither see nor make."""


@dataclass(frozen=True)
class Instance:
    """An instruction with an input, where it needs one, and an output.

    Attributes
    ----------
    instruction : what is to be done.
    input : what with; empty where nothing is needed beside the instruction.
    output : what comes of it; empty where that is still to be said.
    """

    instruction: str
    input: str = ""
    output: str = ""

    def __post_init__(self) -> None:
        if not self.instruction.strip():
            raise ValueError("an instance needs an instruction")


@dataclass(frozen=True)
class Layout:
    """How instances are written down one after another.

    Attributes
    ----------
    posed : an instruction with its input as one question, which the trained model is asked; without an input it is the
        instruction alone.
    with_input : an instance that has an input, with ``{instruction}``, ``{input}`` and ``{output}`` in this order; what
        stands behind ``{output}`` ends an instance.
    alone : an instance that has none, with ``{instruction}`` and ``{output}``.
    list_with_input, list_alone, list_any : begin a list of instructions that need an input, that need none, or of both.
    item : one of a list, with ``{instruction}``; ``{number}`` counts them from 1.
    passage : one ``{passage}`` that is shown before the instances.
    """

    posed: str = "{instruction}\n{input}"
    with_input: str = "Instruction: {instruction}\nInput: {input}\nOutput: {output}\n\n"
    alone: str = "Instruction: {instruction}\nOutput: {output}\n\n"
    list_with_input: str = "Instructions for tasks, each of which comes with an input:\n"
    list_alone: str = "Instructions for tasks that need no input:\n"
    list_any: str = "Instructions for tasks:\n"
    item: str = "{number}. {instruction}\n"
    passage: str = "{passage}\n\n"

    def __post_init__(self) -> None:
        for name, wanted in _PLACES.items():
            pieces = _pieces(f"layout.{name}", getattr(self, name))
            places = [place for _, place in pieces if place]
            if places not in wanted:
                said = " or ".join(", ".join(f"{{{place}}}" for place in one) for one in wanted)
                raise ValueError(f"layout.{name} must name {said}, in this order, got {getattr(self, name)!r}")
            if name in ("with_input", "alone") and not all(text.strip(" ") for text, _ in pieces[1:]):
                raise ValueError(f"layout.{name} needs a text between its places and at its end")
        if _pieces("layout.with_input", self.with_input)[-1] != _pieces("layout.alone", self.alone)[-1]:
            raise ValueError("layout.with_input and layout.alone must end alike")
        if not _pieces("layout.item", self.item)[-1][0].strip(" "):
            raise ValueError("layout.item needs a text at its end")

    def question(self, one: Instance) -> str:
        """What the trained model is asked for an instance."""
        if not one.input:
            return one.instruction
        return self.posed.format(instruction=one.instruction, input=one.input)

    def shown(self, instances: Sequence[Instance]) -> str:
        """Instances one after another, each as its kind is written."""
        return "".join(
            (self.with_input if one.input else self.alone).format(
                instruction=one.instruction, input=one.input, output=one.output
            )
            for one in instances
        )

    def unanswered(self, instances: Sequence[Instance]) -> str:
        """Instances without their outputs, one after another."""
        form = self._form
        return "".join(
            form.before + one.instruction + (form.middle + one.input if one.input else "") + form.end
            for one in instances
        )

    def opened(self, one: Instance | None = None, kind: Kind = "any") -> str:
        """The beginning of a further instance, which the model goes on with.

        An instruction and an input that are given stand in it. After an instruction without an input, one follows where
        the kind is "with input", and the output where it is "alone".
        """
        form = self._form
        text = form.before
        if one is not None:
            text += one.instruction
            if one.input:
                text += form.middle + one.input + form.after
            elif kind != "any":
                text += form.middle if kind == "with input" else form.alone
        return text.rstrip(" ")

    def listed(self, kind: Kind, instructions: Sequence[str]) -> str:
        """A list of instructions up to where the next one is to be written."""
        opening = {"with input": self.list_with_input, "alone": self.list_alone, "any": self.list_any}[kind]
        items = [self.item.format(number=k, instruction=one) for k, one in enumerate(instructions, 1)]
        following = self.item.format(number=len(items) + 1, instruction="\0").partition("\0")[0]
        return (opening.format() + "".join(items) + following).rstrip(" ")

    @property
    def end(self) -> str:
        """What ends an instance."""
        return self._form.end

    @property
    def item_end(self) -> str:
        """What ends an instruction of a list."""
        return _pieces("layout.item", self.item)[-1][0]

    def read_list(self, text: str, *, whole: bool = True) -> list[str]:
        """The instructions of a list that a model went on with, with single blanks.

        Parameters
        ----------
        text : what it wrote after `listed`.
        whole : whether it came to an end; otherwise the last instruction is cut off, and left out.
        """
        *heads, tail = [piece for piece, _ in _pieces("layout.item", self.item)]
        found = re.split(_pattern(tail) + r"\d+".join(map(_pattern, heads)), text)
        kept = found if whole else found[:-1]
        return [plain for one in kept if (plain := SPACES.sub(" ", one).strip())]

    def read(self, opened: str, text: str, kind: Kind = "any", *, whole: bool = True) -> list[Instance | str]:
        """The instances that a model wrote, and for each that is none the reason.

        Pieces end where instances do. A piece is an instance of the kind where it has all fields of one, in their
        order, none of them empty and none with another field in it, so that the kinds never mix.

        Parameters
        ----------
        opened : how the first instance begins, see `opened`.
        text : what the model wrote after that.
        whole : whether it came to an end; otherwise the last piece is cut off.
        """
        form = self._form
        pieces = re.split(form.ending, opened + text)
        found: list[Instance | str] = []
        for place, piece in enumerate(pieces):
            if place and not piece.strip():
                continue
            if not whole and place == len(pieces) - 1:
                found.append("cut off")
                continue
            found.append(form.read(piece, kind))
        return found

    def read_unanswered(self, opened: str, text: str, *, whole: bool = True) -> list[Instance | str]:
        """The same of instances without outputs, see `unanswered`; what stands where an output would is dropped."""
        form = self._form
        pieces = re.split(form.ending, opened + text)
        kept = pieces if whole else pieces[:-1]
        return [form.read_unanswered(piece) for piece in kept if piece.strip()] or ["cut off"]

    @cached_property
    def _form(self) -> _Form:
        (before, _), (middle, _), (after, _), (end, _) = _pieces("layout.with_input", self.with_input)
        return _Form(before, middle, after, _pieces("layout.alone", self.alone)[1][0], end)


class _Form:
    """The texts between the fields of an instance: before the instruction, between it and the input, between this and
    the output, between instruction and output where there is no input, and at the end."""

    def __init__(self, before: str, middle: str, after: str, alone: str, end: str) -> None:
        self.before, self.middle, self.after, self.alone, self.end = before, middle, after, alone, end
        self.ending = _pattern(end)
        begin = rf"\s*{_pattern(before)}" if before.strip() else r"\s*"
        field = r"(?P<{}>.*?)"
        first, given, said = (field.format(name) for name in ("instruction", "input", "output"))
        self._with_input = _compiled(f"{begin}{first}{_pattern(middle)}{given}{_pattern(after)}{said}")
        self._alone = _compiled(f"{begin}{first}{_pattern(alone)}{said}")
        self._unanswered = _compiled(f"{begin}{first}(?:{_pattern(middle)}{given})?(?:{_pattern(after)}.*)?")
        marks = [_pattern(mark) for mark in (middle, after, alone)]
        self._marks = _compiled("|".join([*marks, rf"(?:^|\n){begin}"] if before.strip() else marks))

    def read(self, piece: str, kind: Kind) -> Instance | str:
        for pattern in {"with input": [self._with_input], "alone": [self._alone]}.get(
            kind, [self._with_input, self._alone]
        ):
            found = pattern.fullmatch(piece)
            if found and not any(self._marks.search(text) for text in found.groups()):
                fields = {name: text.strip() for name, text in found.groupdict().items()}
                if empty := [name for name, text in fields.items() if not text]:
                    return f"no {empty[0]}"
                fields["instruction"] = SPACES.sub(" ", fields["instruction"])
                return Instance(**fields)
        return {"with input": "no input with an output", "alone": "no output, or an input", "any": "no output"}[kind]

    def read_unanswered(self, piece: str) -> Instance | str:
        found = self._unanswered.fullmatch(piece)
        if not found or self._marks.search(found["instruction"]):
            return "no instruction"
        instruction, given = SPACES.sub(" ", found["instruction"]).strip(), (found["input"] or "").strip()
        return Instance(instruction, given) if instruction else "no instruction"


NO_INPUT = ("<noinput>", "<no input>", "n/a", "none")
"""What files of instances write where there is no input, in lower case."""


def instances_of(row: Any) -> list[Instance]:
    """The instances of an entry: of instruction, input (which may lack) and output; or one of Self-Instruct's.

    The latter have an instruction and a list of ``instances`` of input and output; what else they have does not matter.

    Raises
    ------
    ValueError : neither.
    """
    if isinstance(row, dict) and isinstance(row.get("instances"), list) and "instruction" in row:
        return [one for part in row["instances"] for one in instances_of({**part, "instruction": row["instruction"]})]
    if not isinstance(row, dict) or not {"instruction", "output"} <= set(row) <= {"instruction", "input", "output"}:
        raise ValueError(f"an entry of instruction, input (if it needs one) and output was expected, got {row}")
    given = str(row.get("input") or "").strip()
    return [Instance(str(row["instruction"]), "" if given.lower() in NO_INPUT else given, str(row["output"]).strip())]


def refused(instruction: str, *, shortest: int, longest: int, banned: Sequence[str] = (), plain: bool = True) -> str:
    """Why an instruction is not one for a model of text; empty where nothing speaks against it (Self-Instruct's rules).

    Parameters
    ----------
    shortest, longest : words that are accepted.
    banned : words that it must not hold, beside those of `BEYOND_TEXT`.
    plain : whether it must begin with an ASCII character.
    """
    count, lower = len(instruction.split()), instruction.lower()
    if not shortest <= count <= longest:
        return f"fewer than {shortest} words" if count < shortest else f"more than {longest} words"
    if found := BEYOND_TEXT.search(lower):
        return f"names {found.group()!r}, which is not text"
    if word := next((word for word in banned if re.search(rf"\b{re.escape(word.lower())}\b", lower)), None):
        return f"names {word!r}"
    if lower.startswith("write a program"):
        return "asks for a program"
    if not instruction[0].isalnum():
        return "begins with punctuation"
    return "begins with a character that is not ASCII" if plain and not instruction[0].isascii() else ""


_PLACES: dict[str, list[list[str]]] = {
    "posed": [["instruction", "input"], ["input", "instruction"]],
    "with_input": [["instruction", "input", "output"]],
    "alone": [["instruction", "output"]],
    "list_with_input": [[]],
    "list_alone": [[]],
    "list_any": [[]],
    "item": [["number", "instruction"], ["instruction"]],
    "passage": [["passage"]],
}


def _pieces(name: str, template: str) -> list[tuple[str, str | None]]:
    """The texts of a template, each with the place behind it; the last has none."""
    try:
        parts = [(text, place) for text, place, _, _ in string.Formatter().parse(template)]
    except ValueError as broken:
        raise ValueError(f"{name} is no template ({broken}); a brace is written twice") from broken
    return parts if parts and parts[-1][1] is None else [*parts, ("", None)]


def _pattern(text: str) -> str:
    """A pattern for a text that is easy about blanks: as many as there are, more of them, or none beside newlines."""
    blank = r"[^\S\n]*"
    found = blank
    for part in re.findall(r"\s+|\S+", text.strip(" ")):
        newlines = part.count("\n")
        found += (rf"(?:\n{blank}){{{newlines},}}" if newlines else blank) if part.isspace() else re.escape(part)
    return found + blank


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.DOTALL | re.IGNORECASE)
