"""A task file says what is wanted in a person's words; whatever is wrong in it is said in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autodidact.lm.task import Demonstration, Principle, Style, Task, read_task

SORT = """
instruction: Put the letters in order.
demonstrations:
  - {input: cab, output: abc}
  - {input: 31, output: 13}
"""


@pytest.fixture
def written(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "task.yaml"
        path.write_text(text)
        return path

    return write


def test_five_lines_are_a_task_and_a_prompt_shows_them(written):
    task = read_task(written(SORT))
    assert task.demonstrations == (Demonstration("cab", "abc"), Demonstration("31", "13"))
    assert task.prompt("dba") == (
        "Put the letters in order.\n\nInput: cab\nOutput: abc\n\nInput: 31\nOutput: 13\n\nInput: dba\nOutput:"
    )
    assert task.prompt("dba", []) == "Put the letters in order.\n\nInput: dba\nOutput:"


def test_an_answer_stands_behind_a_prompt_as_outputs_do_in_demonstrations():
    task = Task("Sort.", (Demonstration("ba", "ab"),))
    assert task.prompt("ba", []) + task.answer("ab") + "\n\n" in task.prompt("dc")
    tight = Task("Sort.", style=Style(demonstration="{input}>{output};", question="{input}>"))
    assert tight.answer("ab") == "ab"


def test_a_request_for_inputs_shows_those_that_are_known_and_names_a_label_where_one_is_wanted():
    style = Style(
        inputs_opening="{instruction}:", inputs_item="{input};", inputs_ask="next ", inputs_ask_labelled="{label}<"
    )
    assert style.request("Words", ["a", "b"]) == "Words:a;b;next "
    assert style.request("Words", [], "good") == "Words:good<"


def test_further_rows_come_from_files_beside_the_task(written, tmp_path):
    (tmp_path / "more.txt").write_text("x\n\ny\n")
    rows = [{"input": "q", "output": "r"}, {"input": "s", "output": "t"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = read_task(written(SORT + "inputs: more.txt\ntest: rows.jsonl\nexamples: []\n"))
    assert task.inputs == ("x", "y")
    assert task.test == (Demonstration("q", "r"), Demonstration("s", "t"))


def test_principles_are_texts_or_entries(written):
    task = read_task(
        written(SORT + "principles:\n  short: Be short.\n  kind: {text: Be kind., negated: Be rude., weight: 2}\n")
    )
    assert task.principles == {"short": Principle("Be short."), "kind": Principle("Be kind.", "Be rude.", 2)}


def test_a_task_survives_being_written_down_but_for_what_it_is_measured_by():
    task = Task(
        "Say it.",
        (Demonstration("a", "yes"),),
        labels=("yes", "no"),
        test=(Demonstration("b", "no"),),
        principles={"p": Principle("x", "y", 3.0)},
        style=Style(stop=(";", "|")),
    )
    back = Task.from_plain(json.loads(json.dumps(task.plain())))
    assert back == Task.from_plain(task.plain())
    assert back.test == ()
    assert (back.labels, back.principles, back.style) == (task.labels, task.principles, task.style)


@pytest.mark.parametrize(
    ("checker", "right", "wrong"),
    [
        ("exact", " a  b ", "A b"),
        ("folded", "A, b!", "ab"),
        ("number", "so it is 1,000.0 in all: 7", "8 or 9"),
        ("contains", "it is a b then", "ab"),
    ],
)
def test_answers_are_compared_as_the_checker_says(checker, right, wrong):
    task = Task("Say it.", checker=checker)
    wanted = "7" if checker == "number" else "a b"
    assert task.right(right, wanted)
    assert not task.right(wrong, wanted)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a list\n", "must hold entries"),
        ("instruction: [1\n", "is not YAML"),
        ("instrution: Sort.\n", "unknown entry of task.yaml 'instrution'; did you mean 'instruction'"),
        ("labels: [a, b]\n", "needs an instruction or demonstrations"),
        (SORT + "labels: [abc]\n", "two or more different outputs"),
        (SORT + "labels: [abc, cba]\n", "unknown output of '31' '13'"),
        (SORT + "checker: exactly\n", "did you mean 'exact'"),
        (SORT + "max_tokens: 0\n", "at least 1"),
        (SORT + "test: [{input: cab, output: abc}]\n", "'cab' is shown with its output and tested too"),
        (SORT + "test: [{input: cab}]\n", "an entry of input and output was expected"),
        (SORT + "inputs: 3\n", "a list of inputs was expected"),
        (SORT + "inputs: none.txt\n", "no such file"),
        (SORT + "style: {question: 'Q:'}\n", "style.question must name {input}"),
        (SORT + "style: {question: 'Q {input'}\n", "is no template"),
        (SORT + "style: {question: 'Q {input}'}\n", "must begin as style.question does"),
        (SORT + "style: {ask: 'Q'}\n", "unknown entry of a style 'ask'"),
        (SORT + "principles: {short: {text: ''}}\n", "a principle needs a text"),
    ],
)
def test_what_is_wrong_in_a_task_is_said(written, text, said):
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        read_task(written(text))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_task_file_that_does_not_exist_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such task file"):
        read_task(tmp_path / "none.yaml")
