"""An answer that is a program is right where it passes the tests of a task, whatever else it does."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from autodidact.evaluation.answers import compared, judged
from autodidact.lm import program_tests, sandbox
from autodidact.lm.program_tests import ProgramTests
from autodidact.lm.task import Demonstration, Task
from autodidact.lm.task_file import read_task

DOUBLE = "def double(x):\n    return 2 * x\n"
TESTS = """
assert double(0) == 0

def test_one_number():
    assert double(-3) == -6
"""
TASK = """
instruction: Double it.
demonstrations:
  - {input: five, output: double(5)}
"""


@pytest.fixture
def doubles() -> ProgramTests:
    return ProgramTests(TESTS, seconds=20)


@pytest.fixture
def written(tmp_path: Path):
    def write(tests: str, checker: str = "{program: tests.py, seconds: 20}", more: str = "") -> Path:
        (tmp_path / "tests.py").write_text(tests)
        path = tmp_path / "task.yaml"
        path.write_text(f"{TASK}{more}checker: {checker}\n")
        return path

    return write


@pytest.mark.parametrize(
    "answer",
    [
        DOUBLE,
        "double = lambda x: x + x",
        "import sys\nprint('hello', end='')\nsys.stdout = None\n" + DOUBLE,
        "from __future__ import annotations\nimport pickle\n" + DOUBLE + "class A: pass\npickle.dumps(A())\n",
        DOUBLE + "def test_of_its_own(): 1 / 0",
        f"```\n{DOUBLE}```",
        f"First:\n```sh\nls\n```\n\n```Python title=double\n{DOUBLE}```\nand so:\n```python\nprint(double(3))\n```",
        "1. The function:\n   ~~~py\n   def double(x):\n       return 2 * x\n   ~~~\n",
        f"It was cut off:\n````python\n{DOUBLE}",
        f'"""Doubles.\n\n```python\n1 / 0\n```\n"""\n{DOUBLE}',
    ],
)
def test_a_right_program_passes_whole_or_in_a_fenced_block(doubles: ProgramTests, answer: str):
    ran = doubles.run(answer)
    assert (ran.outcome, ran.stderr) == ("ok", "")
    assert doubles.passed(answer)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ("def double(x): return x", "AssertionError"),
        ("def double(x): return 2 * abs(x)", "in test_one_number"),
        ("def double(x):", "IndentationError"),
        ("It is two times x.", "SyntaxError"),
        ("", "NameError: name 'double' is not defined"),
        ("\ud800\0", "UnicodeEncodeError"),
        (f"```\n1 / 0\n```\n```\n{DOUBLE}```", "ZeroDivisionError"),
        (DOUBLE + "assert given", "NameError: name 'given'"),
        ("import numpy\n" + DOUBLE, "ModuleNotFoundError"),
        ("input()\n" + DOUBLE, "EOFError"),
    ],
)
def test_a_wrong_program_does_not_and_what_it_wrote_says_why(doubles: ProgramTests, answer: str, why: str):
    ran = doubles.run(answer)
    assert ran.outcome == "error"
    assert why in ran.stderr


@pytest.mark.parametrize(
    "answer",
    [
        "raise SystemExit(0)",
        "import os; os._exit(0)",
        "def double(x): raise SystemExit(0)",
        "def test_one_number(): pass\ndef double(x): return 0",
        "import sys\nprint(sys.stdin.read(), open('program.py').read())\nraise SystemExit(0)",
    ],
)
def test_an_answer_that_ends_before_the_tests_do_is_wrong_whatever_its_status(doubles: ProgramTests, answer: str):
    ran = doubles.run(answer)
    assert ran.outcome == "error"
    assert "assert double" not in ran.stdout


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ("while True: pass", "timeout"),
        ("def double(x):\n    while True: pass", "timeout"),
        ("import time; time.sleep(1000)", "timeout"),
        ("x = bytearray(10**9)", "memory"),
        ("while True: print('x' * 1000)", "output"),
    ],
)
def test_an_answer_that_goes_beyond_a_limit_is_stopped_and_wrong(answer: str, outcome: str):
    bounded = ProgramTests(TESTS, seconds=0.5 if outcome == "timeout" else 20)
    assert bounded.run(answer).outcome == outcome
    assert not bounded.passed(answer)


def test_less_time_and_more_memory_can_be_had():
    slow = "import time\ntime.sleep(0.6)\n" + DOUBLE
    assert ProgramTests(TESTS, seconds=0.3).run(slow).outcome == "timeout"
    assert ProgramTests(TESTS, seconds=20).passed(slow)
    answer = "x = bytearray(300 * 2**20)\n" + DOUBLE
    assert ProgramTests(TESTS, seconds=20).run(answer).outcome == "memory"
    assert ProgramTests(TESTS, seconds=20, memory_mb=600).passed(answer)


def test_an_answer_reaches_no_file_and_no_network(doubles: ProgramTests, tmp_path: Path):
    kept = tmp_path / "kept"
    kept.write_text("kept")
    for act in (f"open({str(tmp_path / 'new')!r}, 'w')", f"open({str(kept)!r}, 'a')", f"open({str(kept)!r})"):
        ran = doubles.run(f"{act}\n{DOUBLE}")
        assert (ran.outcome, "PermissionError" in ran.stderr) == ("error", True)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert kept.read_text() == "kept"
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        where = listening.getsockname()
        ran = doubles.run(f"import socket\nsocket.create_connection({where!r})\n{DOUBLE}")
        assert (ran.outcome, "Error" in ran.stderr) == ("error", True)
        listening.setblocking(False)
        with pytest.raises(BlockingIOError):
            listening.accept()
    # In its own folder it may.
    assert doubles.passed(f"open('own', 'w').write('x')\n{DOUBLE}")


def test_tests_know_the_input_and_the_wanted_output():
    each = ProgramTests("assert value == int(wanted) and given == 'five'", seconds=20)
    assert each.passed("value = 5\ngiven = wanted = 0", "five", "5")
    assert not each.passed("value = 5", "six", "5")
    assert not each.passed("value = 5", "five", "6")
    task = Task("Double it.", test=(Demonstration("five", "5"), Demonstration("six", "6")), checker=each)
    assert judged(task, ["value = 5", "value = 6"])["right"] == 0.5


def test_what_a_test_gives_back_is_not_taken_for_a_pass():
    assert not ProgramTests("def test_it(): return 1 == 2", seconds=20).passed("")
    assert not ProgramTests("async def test_it(): assert False", seconds=20).passed("")
    # What is no function is not called.
    assert ProgramTests("test_cases = [1]\nassert test_cases", seconds=20).passed("")


def test_a_task_file_names_its_tests_and_their_limits(written):
    task = read_task(written(TESTS, "{program: tests.py, seconds: 7, memory_mb: 300}"))
    assert task.checker == ProgramTests(TESTS, 7, 300)
    assert task.checked_by == "program"
    assert task.right(DOUBLE, "double(5)")
    assert not task.right("def double(x): return x", "double(5)")
    # The tests go with the model that is kept, not the file.
    assert Task.from_plain(json.loads(json.dumps(task.plain()))).checker == task.checker
    assert task.meant(" a  b ") == "a  b"
    assert task.meant(" ") is None


def test_with_a_final_answer_only_that_is_run(written):
    task = read_task(written(TESTS, more='final: "Answer:"\n'))
    assert task.right(f"```python\n1 / 0\n```\nAnswer:\n{DOUBLE}", "x")
    assert not task.right(DOUBLE, "x")


@pytest.mark.parametrize(
    ("tests", "checker", "said"),
    [
        (TESTS, "program", "a checker by tests names a file of them: {program: tests.py}"),
        (TESTS, "{seconds: 3}", "a checker by tests names a file of them: {program: tests.py}"),
        (TESTS, "{program: [tests.py]}", "a checker by tests names a file of them"),
        (TESTS, "{program: tests.py, second: 3}", "unknown entry of a checker 'second'; did you mean 'seconds'"),
        (TESTS, "{program: tests.py, seconds: 0}", "seconds above 0, got 0"),
        (TESTS, "{program: tests.py, seconds: long}", "seconds above 0, got 'long'"),
        (TESTS, "{program: tests.py, memory_mb: 63}", "memory_mb of 64 or more, got 63"),
        (TESTS, "{program: tests.py, memory_mb: 99.5}", "memory_mb of 64 or more, got 99.5"),
        (TESTS, "{program: none.py}", "no such file of tests"),
        ("def", "{program: tests.py}", "tests.py: the tests are no Python, line 1"),
        ("def check():\n    assert double(1) == 2", "{program: tests.py}", "an empty program passes the tests"),
        (TESTS, "[exact]", "a text or number was expected"),
        (TESTS, "programm", "did you mean '{program: FILE.py}'"),
    ],
)
def test_what_is_wrong_with_the_tests_is_said_in_one_line(written, tests: str, checker: str, said: str):
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        read_task(written(tests, checker))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_program_is_tried_with_an_input_and_output_of_the_task(written):
    # Of no input, these tests would look at nothing.
    by_input = "if given:\n    assert double(int(wanted)) == 2 * int(wanted)"
    task = read_task(written(by_input, more="test: [{input: three, output: '3'}]\n"))
    assert judged(task, [DOUBLE])["right"] == 1
    with pytest.raises(ValueError, match="an empty program passes"):
        read_task(written(by_input))


def test_a_machine_that_cannot_confine_programs_is_said_before_anything_else(written, monkeypatch, tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("raise OSError('no such luck')")
    monkeypatch.setattr(sandbox, "_script", lambda: broken)
    with pytest.raises(ValueError, match=r"no program that a model writes can be run here: .*no such luck"):
        read_task(written(TESTS))


def test_a_task_needs_nothing_of_a_system_that_cannot_confine_programs_until_one_is_run(written, monkeypatch):
    asked = "import sys, autodidact.lm.task; print('autodidact.lm.sandbox' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout == "False\n"
    monkeypatch.setattr(program_tests, "POSIX", False)
    with pytest.raises(ValueError, match="can be run here: programs are confined on POSIX systems alone"):
        read_task(written(TESTS))


def test_what_the_kernel_does_not_hold_is_said_in_a_warning(written, monkeypatch):
    monkeypatch.setattr(sandbox, "guarantees", lambda: {"network": "hooks", "files": "kernel", "disk": "nothing"})
    with pytest.warns(UserWarning, match=r"does not hold all of them back: network, disk \("):
        read_task(written(TESTS))


def test_each_answer_is_run_once_for_all_figures(monkeypatch):
    asked = list[str]()
    checker = ProgramTests(TESTS)

    def passed(self: ProgramTests, answer: str, given: str = "", wanted: str = "") -> bool:
        asked.append(answer)
        return answer in ("c", "d", "e")

    monkeypatch.setattr(ProgramTests, "passed", passed)
    task = Task("Double it.", test=tuple(Demonstration(str(k), "x") for k in range(3)), checker=checker)
    table = compared(task, ["a", "b", "c"], ["d", "e", "f"])
    assert sorted(asked) == ["a", "b", "c", "d", "e", "f"]
    assert "33.3% of the 3 answers were right before, 66.7% are now: 2 became right and 1 wrong." in str(table.about)
    assert table.about["checker"] == "program"
