"""Tests that answers pass as programs, as the reward that a model learns from."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml

from autodidact.cli.main import main
from autodidact.evaluation.table import Table
from autodidact.lm.program_tests import ProgramTests
from autodidact.lm.task import Demonstration, Task
from autodidact.lm.tiny import tiny_lm
from autodidact.rewards import Answered, named, rewarded
from autodidact.rewards.passes_tests import PassesTests
from autodidact.rollouts.judging import learned_from

TESTS = "assert y == int(given) + int(wanted or 0)"
SUM = Task("Add.", examples=(Demonstration("3", "4"),), inputs=("5",))
"""With a checker of its own, which the reward does not ask."""


def answered(*texts: str, given: str = "3", wanted: str | None = "4") -> list[Answered]:
    return [Answered(given, f"{given}>", text, wanted) for text in texts]


@pytest.fixture
def tests(tmp_path: Path) -> Path:
    path = tmp_path / "tests.py"
    path.write_text(TESTS)
    return path


def test_a_program_that_passes_has_one_and_every_other_has_zero_whatever_stops_it(tests: Path):
    reward = named(f"program:{tests}", SUM, seconds=1.0)
    texts = ["y = 7", "y = 8", "while True: pass", "y = bytearray(10**9)", "raise SystemExit(0)", "7", "", "y = 3 + 4"]
    found, reasons = rewarded(reward, answered(*texts))
    assert found.tolist() == [1, 0, 0, 0, 0, 0, 0, 1]
    assert not reasons
    assert rewarded(reward, answered("y = 5", given="5", wanted=None))[0].tolist() == [1]


def test_it_has_the_time_that_functions_have(tests: Path):
    slow = "import time; time.sleep(0.6); y = 7"
    for seconds, passes in ((0.3, 0), (20, 1)):
        assert rewarded(named(f"program:{tests}", SUM, seconds=seconds), answered(slow))[0].tolist() == [passes]


def test_it_may_stand_in_a_sum(tests: Path):
    found, _ = rewarded(named(f"2*program:{tests} + checker", SUM, seconds=20), answered("y = 7", "4"))
    assert found.tolist() == [2, 1]


def test_a_task_whose_checker_are_tests_is_rewarded_by_them_with_outputs_and_without():
    task = Task("Add.", examples=SUM.examples, inputs=SUM.inputs, checker=ProgramTests(TESTS, seconds=20))
    reward = named("checker", task)
    assert learned_from(task, reward) == ["5", "3"]
    assert learned_from(SUM, named("checker", SUM)) == ["3"]
    assert rewarded(reward, answered("y = 7", "y = 3"))[0].tolist() == [1, 0]


def test_what_could_not_be_run_is_left_out_and_what_stands_there_twice_is_run_once(monkeypatch):
    ran = Counter[str]()

    def passed(self: ProgramTests, answer: str, given: str = "", wanted: str = "") -> bool:
        ran[answer] += 1
        if answer == "c":
            raise RuntimeError("the sandbox did\nnot start")
        return answer == "b"

    monkeypatch.setattr(ProgramTests, "passed", passed)
    reward = PassesTests(Task("Add.", checker=ProgramTests(TESTS)))
    found, reasons = rewarded(reward, answered("a", "b", "c", "b", "a", "b"))
    assert str(found.tolist()) == "[0.0, 1.0, nan, 1.0, 0.0, 1.0]"
    assert reasons == {"RuntimeError: the sandbox did not start": 1}
    assert ran == {"a": 1, "b": 1, "c": 1}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("program", "names a file of tests: program:tests.py"),
        ("program:", "names a file of tests: program:tests.py"),
        ("program:none.py", r"no such file of tests: none\.py"),
        ("program:{folder}/broken.py", "broken.py: the tests are no Python, line 2"),
        ("program:{folder}/idle.py", "an empty program passes the tests"),
        ("programs:{folder}/idle.py", "no such run: programs"),
    ],
)
def test_tests_that_tell_nothing_are_refused_with_the_reason(tmp_path: Path, name: str, said: str):
    (tmp_path / "broken.py").write_text("assert True\nassert (")
    (tmp_path / "idle.py").write_text("def check(): assert y")
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        named(name.format(folder=tmp_path), SUM)


def test_a_model_learns_to_write_the_program_that_passes_and_an_endless_one_does_not_end_the_run(tmp_path: Path):
    programs = ["y = 1", "y = 2", "while 1: 0"]
    tiny_lm([*programs, "1>", ";"], width=16, depth=1, context=8).save_folder(tmp_path / "model")
    (tmp_path / "tests.py").write_text("assert y == 1")
    task = {
        "instruction": "One.",
        "inputs": ["1"],
        "test": [{"input": "1", "output": "y = 1"}],
        "checker": {"program": "tests.py", "seconds": 1},
        "style": {"opening": "", "demonstration": "{input}>{output};", "question": "{input}>", "stop": [";"]},
        "max_tokens": 1,
    }
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(task))
    words = ["improve", "policy_gradient", "--model", tmp_path / "model", "--task", tmp_path / "task.yaml"]
    training = ["--out", tmp_path / "run", "--steps", 8, "--lr", 0.02, "--quiet", "--no-report"]
    options = {"lr_scale": 1, "group": 8, "missing_end": 0, "beta": 0}
    chosen = [word for name, value in options.items() for word in (f"--method.{name}", value)]
    began = time.monotonic()
    assert main([str(word) for word in [*words, *training, *chosen]]) == 0
    # Each batch holds an endless program but once.
    assert time.monotonic() - began < 120
    [row] = [json.loads(line) for line in (tmp_path / "run" / "examples.jsonl").read_text().splitlines()]
    assert row == {"prompt": "1>", "completion": "y = 1"}
    table = Table.load(tmp_path / "run" / "evaluations" / "task.json")
    assert (table.values("before", "right"), table.values("after", "right")) == ([0], [1])
