"""A task as a person writes it down: a YAML file, and files that it names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
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
from autodidact.lm.task import PROGRAM, Demonstration, Preference, Principle, Style, Task


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
