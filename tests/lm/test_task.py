"""A task file says what is wanted in a person's words; whatever is wrong in it is said in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autodidact.lm.puzzles import puzzle
from autodidact.lm.task import Demonstration, Principle, Style, Task
from autodidact.lm.task_file import read_task

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
    # What is trained ends as a demonstration does, where that ends an answer.
    assert task.completion("ab") == " ab\n"
    assert tight.completion("ab") == "ab"
    ended = Style(demonstration="{input}>{output};", question="{input}>", stop=("\n", ";"))
    assert [ended.completion("ab"), ended.output("ab;"), ended.output("ab")] == ["ab;", "ab", "ab"]
    assert [ended.ended("a b"), tight.style.ended("a b")] == ["a b;", "a b"]
    assert task.style.output(" ab\n") == "ab"


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


def test_a_row_may_hold_what_unicode_takes_for_the_end_of_a_line(written, tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps({"input": "q\u2028r", "output": "\x85"}, ensure_ascii=False) + "\n")
    (tmp_path / "more.txt").write_text(" x\u2029y \n")
    task = read_task(written(SORT + "test: rows.jsonl\ninputs: more.txt\n"))
    assert task.test == (Demonstration("q\u2028r", "\x85"),)
    assert task.inputs == ("x\u2029y",)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("rows.jsonl", b'{"input": "a", "output": "b"}\n{"input"\n', "line 2 of rows.jsonl is not JSON"),
        ("rows.txt", "gr\u00fcn\n".encode("latin-1"), "is not UTF-8 text"),
        ("rows.csv", b"a,b\n", "texts are read from .txt or .jsonl, not from 'rows.csv'"),
    ],
)
def test_what_is_wrong_in_a_file_of_rows_is_said(written, tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=said):
        read_task(written(SORT + f"inputs: {name}\n"))


def test_questions_with_options_and_rationales_are_inputs_and_outputs(written, tmp_path):
    puzzles = [
        {
            "question": "What is wet?",
            "options": ["fire", "rain"],
            "answer": "rain",
            "rationale": "It\nfalls.",
            "level": 2,
        },
        {"question": "How many?", "answer": "3", "rationale": None},
        {"question": "Which?", "options": {"A": "one", "B": "two"}, "answer": "A", "rationale": "So."},
    ]
    (tmp_path / "puzzles.jsonl").write_text("".join(json.dumps(row) + "\n" for row in puzzles))
    (tmp_path / "open.jsonl").write_text('{"question": "Why?"}\n')
    task = read_task(written(SORT + "examples: puzzles.jsonl\ninputs: open.jsonl\n"))
    assert task.examples == (
        Demonstration("What is wet?\nA. fire\nB. rain", "It falls. Answer: B"),
        Demonstration("How many?", "Answer: 3"),
        Demonstration("Which?\nA. one\nB. two", "So. Answer: A"),
    )
    assert (task.inputs, task.final) == (("Why?",), "Answer:")
    assert task.right("Rain falls, so Answer:  B", "It falls. Answer: B")
    assert task.right("Answer: A, no, Answer: B", "B")
    assert not task.right("B", "It falls. Answer: B")
    told = read_task(written(SORT + "examples: puzzles.jsonl\nfinal: So\n"))
    assert told.examples[1].output == "So 3"


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"question": " "}, "a puzzle needs a question"),
        ({"question": None}, "line 3 of puzzles.jsonl: a puzzle needs a question"),
        ({"question": "Q", "options": ["a", " a"], "answer": "a"}, "line 3 of puzzles.jsonl: two options are the same"),
        ({"question": "Q", "options": ["a", None]}, "line 3 of puzzles.jsonl: an option is empty"),
        ({"question": "Q", "options": {"A": "x"}, "answer": "A"}, "options are a list of two to 26 texts"),
        ({"question": "Q", "options": ["a", "b"], "answer": "(C)"}, r"the answer '\(C\)' of 'Q' is none"),
        ({"question": "Q", "options": ["fire", "rain"], "answer": "A. rain"}, "the answer 'A. rain' of 'Q' is none"),
        ({"question": "Q", "options": ["a"], "answer": "a"}, "options are a list of two to 26 texts"),
        ({"question": "Q", "options": ["a", "b"], "answer": "c"}, "the answer 'c' of 'Q' is none of its options a, b"),
        ({"question": "Q"}, "an entry of input and output was expected"),
    ],
)
def test_puzzles_that_make_no_sense_are_refused(written, tmp_path, row, said):
    (tmp_path / "puzzles.jsonl").write_text('{"question": "Q", "answer": "A"}\n\n' + json.dumps(row) + "\n")
    with pytest.raises(ValueError, match=said):
        read_task(written(SORT + "examples: puzzles.jsonl\n"))


def test_a_puzzle_in_the_task_itself_is_named_by_its_number(written):
    with pytest.raises(ValueError, match="row 2 of inputs: a puzzle needs a question"):
        read_task(written(SORT + "inputs:\n- question: Why?\n- question: null\n"))


@pytest.mark.parametrize(
    ("options", "answer", "letter"),
    [
        (["fire", "rain"], "(B)", "B"),
        (["fire", "rain"], "b", "B"),
        (["fire", "rain"], "B.", "B"),
        (["fire", "rain"], "b) rain", "B"),
        (["A. fire", "B. rain"], "rain", "B"),
        (["(A) fire", "(B) rain"], "B", "B"),
        (["a) fire", "b) rain"], "b) rain", "B"),
        ({"a": "a. fire", "(b)": "b. rain"}, "B", "B"),
        (["fire", "ra\nin"], "ra in", "B"),
    ],
)
def test_options_are_lettered_once_and_an_answer_may_name_one_by_letter_text_or_both(options, answer, letter):
    found = puzzle({"question": "Wet?", "options": options, "answer": answer})
    second = "ra in" if "ra\nin" in options else "rain"
    assert found == {"input": f"Wet?\nA. fire\nB. {second}", "output": f"Answer: {letter}"}


def test_a_letter_that_is_part_of_an_option_stays_and_a_text_counts_before_a_small_letter():
    found = puzzle({"question": "Who?", "options": ["A. Lincoln", "J. Adams"], "answer": "J. Adams"})
    assert found == {"input": "Who?\nA. A. Lincoln\nB. J. Adams", "output": "Answer: B"}
    assert puzzle({"question": "Which?", "options": ["b", "a"], "answer": "a"})["output"] == "Answer: B"


def test_an_answer_is_one_line_and_an_empty_one_is_none():
    assert puzzle({"question": "Q", "answer": "1. This\n2.  That"}) == {
        "input": "Q",
        "output": "Answer: 1. This 2. That",
    }
    for nothing in ("", " \n", None):
        assert puzzle({"question": "Q", "options": ["x", "y"], "answer": nothing}) == {"input": "Q\nA. x\nB. y"}


def test_what_an_answer_comes_to_is_the_same_for_all_that_are_equally_right():
    reckoned = Task("Add.", final=">", checker="number")
    assert {reckoned.meant(text) for text in ("3+4=7>7", "[3][7]>07", "> 7.0")} == {"7.0"}
    assert [reckoned.meant(text) for text in ("7", "3>", "")] == [None] * 3
    assert Task("Say.", checker="folded").meant(" A, b!") == "a b"
    assert [Task("Say.").meant(text) for text in ("A  b", " ")] == ["A b", None]


def test_pairs_are_of_a_prompt_as_it_is_or_of_an_input_of_the_task(written, tmp_path):
    (tmp_path / "pairs.jsonl").write_text(
        '{"prompt": "p>", "chosen": "a", "rejected": "b"}\n{"input": "ba", "chosen": "ab", "rejected": "ba"}\n'
    )
    task = read_task(written("instruction: Sort.\npairs: pairs.jsonl\n"))
    assert task.preferences() == [("p>", "a", "b"), ("Sort.\n\nInput: ba\nOutput:", " ab\n", " ba\n")]
    assert Task.from_plain(json.loads(json.dumps(task.plain()))).pairs == task.pairs
    for row, said in (
        ("{prompt: p, chosen: a}", "prompt .or input., chosen and rejected was expected"),
        ("{prompt: p, input: q, chosen: a, rejected: b}", "a prompt or an input, and not both"),
        ("{chosen: a, rejected: b}", "a prompt or an input"),
    ):
        with pytest.raises(ValueError, match=said):
            read_task(written(f"instruction: Sort.\npairs: [{row}]\n"))


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
        (SORT + "test: [{input: ' cab ', output: abc}]\n", "'cab' is shown with its output and tested too"),
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
