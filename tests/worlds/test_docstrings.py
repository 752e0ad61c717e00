"""Docstrings of what is installed: the questions' answers are the interpreter's own, and tasks are read back."""

from __future__ import annotations

import heapq
import importlib
import inspect
from collections import Counter
from pathlib import Path

import pytest

from autodidact.data.texts import read_passages
from autodidact.lm.task_file import read_task
from autodidact.worlds.language import Docstrings
from autodidact.worlds.language.docstrings import ASKINGS, NONE, STANDARD

WORLD = Docstrings()


def test_calls_are_public_functions_and_classes_with_the_arguments_that_the_interpreter_tells():
    seen = Counter()
    for domain in WORLD.domains:
        for call in WORLD.calls(domain):
            one = getattr(importlib.import_module(call.module), call.name)
            assert call.module in STANDARD[domain]
            assert inspect.isclass(one) or inspect.isroutine(one)
            assert call.text.split()[0] in one.__doc__
            if call.arguments is not None:
                assert call.arguments == tuple(inspect.signature(one).parameters)
            seen[call.module] += 1
    assert min(seen.values()) >= 1
    assert sum(seen.values()) > 300
    by_name = {call.name: call for call in WORLD.calls("data")}
    assert by_name["heappush"].module == "heapq"
    assert by_name["heappush"].text.startswith(" ".join(heapq.heappush.__doc__.split()[:4]))


def test_answers_are_those_of_the_interpreter():
    families = [f"{asked} {domain}" for asked in ASKINGS for domain in WORLD.domains]
    answers = Counter()
    for item in WORLD.items(300, 0, families=families):
        words = item.prompt.removesuffix("\nOutput: ").split()
        if item.family.startswith("module"):
            assert hasattr(importlib.import_module(item.answer), words[4])
        elif item.family.startswith("exists"):
            there = words[-1].rstrip("?") in {
                call.name for domain in WORLD.domains for call in WORLD.calls(domain) if call.module == words[2]
            }
            assert item.answer == ("yes" if there else "no")
            answers[item.answer] += 1
        else:
            module, _, name = words[-1].rstrip("?").rpartition(".")
            wanted = list(inspect.signature(getattr(importlib.import_module(module), name)).parameters)
            assert item.answer == (", ".join(wanted) or NONE)
    assert 0.3 < answers["yes"] / answers.total() < 0.7


def test_an_instruction_is_read_as_the_question_that_it_asks_and_others_as_none():
    for item in WORLD.items(100, 1, distinct=True):
        instruction = item.prompt.removeprefix("Instruction: ").removesuffix("\nOutput: ")
        found = WORLD.asked(instruction)
        assert found is not None
        assert (found.answer, found.family) == (item.answer, item.family)
    said = WORLD.asked("Does heapq have a call frobnicate?")
    assert said is not None
    assert said.answer == "no"
    for nothing in (
        "",
        "Which module does frobnicate belong to?",
        "What are the arguments of heapq.frobnicate?",
        "Why?",
    ):
        assert WORLD.asked(nothing) is None


def test_arguments_are_right_whatever_the_blanks_between_them_and_in_their_order_alone():
    call = next(one for one in WORLD.calls("data") if one.name == "heappush")
    item = WORLD.question("arguments", call)
    assert item.answer == "heap, item"
    assert WORLD.check(item, " heap,item ")
    assert not WORLD.check(item, "item, heap")


def test_a_name_of_several_modules_is_not_asked_for():
    taken = {call.name: 0 for domain in WORLD.domains for call in WORLD.calls(domain)}
    for domain in WORLD.domains:
        for call in WORLD.calls(domain):
            taken[call.name] += 1
    double = next(call for call in WORLD.calls("data") if taken[call.name] > 1)
    with pytest.raises(ValueError, match=f"several modules have a call {double.name}"):
        WORLD.question("module", double)


def test_the_files_of_a_task_are_read_by_what_improves(tmp_path: Path):
    paths = WORLD.write(tmp_path, seeds=12, test=20, seed=1)
    assert [path.name for path in paths] == [f"{domain}.yaml" for domain in WORLD.domains]
    task, wanted = read_task(paths[0]), WORLD.task("data", seeds=12, test=20, seed=1)
    assert (task.seeds, task.test) == (wanted.seeds, wanted.test)
    assert not {one.instruction for one in task.seeds} & {one.input for one in task.test}
    # A seed as it is shown for an answer, and as the student learns it, is written alike.
    one = task.seeds[0]
    assert task.layout.shown([one]) == task.prompt(one.instruction) + task.answer(one.output) + "\n\n"
    passages = read_passages(tmp_path / "data.txt", words=200)
    assert passages == WORLD.corpus("data")


def test_what_cannot_be_read_is_said():
    with pytest.raises(ValueError, match="no module 'nowhere_at_all'"):
        Docstrings({"a": ("json", "nowhere_at_all"), "b": ("re", "string")})
    with pytest.raises(ValueError, match="two or more domains"):
        Docstrings({"a": ("json",)})
    with pytest.raises(ValueError, match="domain 'a' needs two or more modules"):
        Docstrings({"a": ("json",), "b": ("re", "string")})
    with pytest.raises(ValueError, match="did you mean 'data'"):
        WORLD.task("dato")
