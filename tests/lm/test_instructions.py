"""Instances are written down by a layout, and read back from what a model writes, however messy it is."""

from __future__ import annotations

import json
import random

import pytest

from autodidact.data.batch import Batch
from autodidact.lm.instructions import Instance, Layout, instances_of, refused
from autodidact.lm.kept import LanguageModel
from autodidact.lm.task import Style, Task
from autodidact.lm.task_file import read_task
from autodidact.lm.tiny import tiny_lm

LAYOUT = Layout()
TERSE = Layout(
    posed="{instruction}: {input}",
    with_input="{instruction}: {input}> {output};",
    alone="{instruction}> {output};",
    item="{instruction};",
    list_with_input="?",
    list_alone="!",
    list_any="%",
)
SORT = Instance("Sort the letters of this word.", "cab", "abc")
JOKE = Instance("Tell a joke about a cat.", "", "It sat.\nOn a joke.")


def test_instances_are_shown_each_as_its_kind_is_written():
    assert LAYOUT.shown([SORT, JOKE]) == (
        "Instruction: Sort the letters of this word.\nInput: cab\nOutput: abc\n\n"
        "Instruction: Tell a joke about a cat.\nOutput: It sat.\nOn a joke.\n\n"
    )
    assert LAYOUT.unanswered([SORT, JOKE]) == (
        "Instruction: Sort the letters of this word.\nInput: cab\n\nInstruction: Tell a joke about a cat.\n\n"
    )
    assert (LAYOUT.question(SORT), LAYOUT.question(JOKE)) == (
        "Sort the letters of this word.\ncab",
        "Tell a joke about a cat.",
    )


def test_the_next_instance_begins_with_what_is_known_of_it_and_no_blank_at_the_end():
    known = Instance("Sort this.")
    assert LAYOUT.opened() == "Instruction:"
    assert LAYOUT.opened(known, "with input") == "Instruction: Sort this.\nInput:"
    assert LAYOUT.opened(known, "alone") == "Instruction: Sort this.\nOutput:"
    assert LAYOUT.opened(known) == "Instruction: Sort this."
    assert LAYOUT.opened(SORT, "with input") == "Instruction: Sort the letters of this word.\nInput: cab\nOutput:"
    assert TERSE.opened(known, "with input") == "Sort this.:"


def test_a_list_ends_where_the_next_number_is_to_be_written_and_is_read_back():
    assert LAYOUT.listed("alone", ["Sort it", "Say it"]) == (
        "Instructions for tasks that need no input:\n1. Sort it\n2. Say it\n3."
    )
    said = " Write a poem\n  about rain.\n4. Name  three birds\n\n5.Count to ten\n6. cut o"
    wanted = ["Write a poem about rain.", "Name three birds", "Count to ten"]
    assert LAYOUT.read_list(said, whole=False) == wanted
    assert LAYOUT.read_list(said) == [*wanted, "cut o"]
    assert LAYOUT.read_list("") == []
    assert TERSE.listed("any", ["a b", "c"]) == "%a b;c;"
    assert TERSE.read_list("d e;f;") == ["d e", "f"]


def messy(rng: random.Random, one: Instance) -> str:
    """An instance as a careless model writes it."""
    word = rng.choice([str.lower, str.upper, str.title])
    gap = lambda: " " * rng.randint(0, 3)  # noqa: E731
    fields = [("instruction", one.instruction), ("input", one.input), ("output", one.output)]
    lines = [f"{gap()}{word(name)}:{gap()}{text}{gap()}" for name, text in fields if text]
    return "\n".join(lines) + "\n" * rng.randint(2, 4)


@pytest.mark.parametrize("kind", ["with input", "alone"])
def test_planted_instances_are_found_in_messy_text_and_the_kinds_never_mix(kind):
    rng = random.Random(0)
    for _ in range(60):
        planted = [
            Instance(f"Do the thing number {k} now", f"in {k}" if rng.random() < 0.5 else "", f"out {k}\nand more")
            for k in range(rng.randint(1, 5))
        ]
        first = Instance("Do what is asked here", "x" if kind == "with input" else "", "y")
        begun = LAYOUT.opened(Instance(first.instruction), kind)
        text = messy(rng, first).strip().split(":", 2)[2]
        junk = ["I hope this helps!\n\n", "Output: alone\n\n", "Instruction: no answer\n\n", ""]
        rest = "".join(rng.choice(junk) + messy(rng, one) for one in planted)
        found = [one for one in LAYOUT.read(begun, f"{text}\n\n{rest}", kind) if isinstance(one, Instance)]
        assert found == [first, *(one for one in planted if bool(one.input) == (kind == "with input"))]


@pytest.mark.parametrize(
    ("kind", "said", "whole", "found"),
    [
        ("with input", " cab\nOutput:", True, ["no output"]),
        ("with input", "\nOutput: abc", True, ["no input"]),
        ("with input", " cab", True, ["no input with an output"]),
        ("with input", " cab\nOutput: ab", False, ["cut off"]),
        ("with input", " cab\nOutput: abc\n\nInstr", False, [Instance("Sort it.", "cab", "abc"), "cut off"]),
        ("alone", " abc\nInput: cab", True, ["no output, or an input"]),
        ("any", "\nOutput: abc", True, [Instance("Sort it.", "", "abc")]),
        ("any", "\nInput: cab\nOutput: abc", True, [Instance("Sort it.", "cab", "abc")]),
        ("any", " and nothing else", True, ["no output"]),
    ],
)
def test_what_is_no_instance_is_said(kind, said, whole, found):
    assert LAYOUT.read(LAYOUT.opened(Instance("Sort it."), kind), said, kind, whole=whole) == found


def test_instances_without_outputs_are_read_and_an_output_that_follows_is_dropped():
    said = " Say which\nInput: cab\nOutput: abc\n\nInstruction: Tell a joke\n\nhm"
    assert LAYOUT.read_unanswered(LAYOUT.opened(), said) == [
        Instance("Say which", "cab"),
        Instance("Tell a joke"),
        "no instruction",
    ]
    assert LAYOUT.read_unanswered(LAYOUT.opened(), " Say", whole=False) == ["cut off"]


@pytest.mark.parametrize(
    ("instruction", "why"),
    [
        ("Sort the letters now", ""),
        ("Sort these letters", "fewer than 4 words"),
        (" ".join(["word"] * 151), "more than 150 words"),
        ("Describe what the picture shows", "names 'picture', which is not text"),
        ("Write a program that sorts", "asks for a program"),
        ("- sort the letters now", "begins with punctuation"),
        ("Ändere bitte den letzten Buchstaben", "begins with a character that is not ASCII"),
        ("Tell me about Bob please", "names 'bob'"),
    ],
)
def test_an_instruction_is_refused_for_the_reason_that_is_given(instruction, why):
    assert refused(instruction, shortest=4, longest=150, banned=("bob",)) == why


def test_seeds_of_self_instruct_and_plain_ones_are_read_and_test_rows_may_have_instructions(tmp_path):
    rows = [
        {"id": "seed_1", "name": "x", "instruction": "Add.", "instances": [{"input": "1 2", "output": "3"}]},
        {"instruction": "Greet.", "input": "<noinput>", "output": "Hello"},
        {"instruction": "Bow.", "output": "ok"},
    ]
    (tmp_path / "seeds.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "task.yaml"
    path.write_text("seeds: seeds.jsonl\ntest: [{instruction: Add., input: 2 2, output: 4}, {input: hi, output: ho}]\n")
    task = read_task(path)
    assert task.seeds == (Instance("Add.", "1 2", "3"), Instance("Greet.", "", "Hello"), Instance("Bow.", "", "ok"))
    assert [one.input for one in task.test] == ["Add.\n2 2", "hi"]
    assert task.prompt("Bow.") == "Input: Bow.\nOutput:"
    assert Task.from_plain(json.loads(json.dumps(task.plain()))) == Task(seeds=task.seeds)
    path.write_text("seeds: seeds.jsonl\ntest: [{instruction: Add., input: 1 2, output: 3}]\n")
    with pytest.raises(ValueError, match="is shown with its output and tested too"):
        read_task(path)


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ("seeds: [{instruction: Add.}]", "an entry of instruction, input"),
        ("seeds: [{instruction: ' ', output: x}]", "an instance needs an instruction"),
        ("seeds: 3", "a list of instruction, input and output was expected"),
        ("layout: {posed: '{instruction}'}", "layout.posed must name {instruction}, {input} or"),
        ("layout: {with_input: '{input}'}", "in this order"),
        ("layout: {alone: '{instruction} {output};'}", "layout.alone needs a text between its places"),
        ("layout: {alone: '{instruction}>{output};'}", "must end alike"),
        ("layout: {item: '{number}. {instruction}'}", "layout.item needs a text at its end"),
        ("layout: {item: '{number. {instruction}'}", "is no template"),
        ("layout: {items: x}", "did you mean 'item'"),
    ],
)
def test_what_is_wrong_with_seeds_and_layouts_is_said(tmp_path, entries, said):
    path = tmp_path / "task.yaml"
    path.write_text(f"instruction: Do.\n{entries}\n")
    with pytest.raises(ValueError) as caught:
        read_task(path)
    assert said in str(caught.value)


def test_an_entry_that_is_no_object_is_refused():
    with pytest.raises(ValueError, match="an entry of instruction"):
        instances_of("Add.")


def test_a_kept_model_writes_an_instruction_and_its_input_down_as_the_layout_has_it():
    task = Task(seeds=(SORT,), style=Style(opening="", demonstration="{input}={output}", question="{input}="))
    model = LanguageModel(tiny_lm("ab", width=8, depth=1, context=8), task)
    batch = Batch(None, {"instruction": ["Sort.", "Bow."], "input": ["ba", ""]})
    assert model.prompts(batch) == ["Sort.\nba=", "Bow.="]
