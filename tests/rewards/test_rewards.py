"""Rewards: what each says of an answer, what is left out and why, and how they are named."""

from __future__ import annotations

import math
import time
from collections import Counter

import pytest
import torch

from autodidact.lm.kept import LanguageModel
from autodidact.lm.task import Demonstration, Task
from autodidact.lm.tiny import tiny_lm
from autodidact.rewards import Answered, named, rewarded
from autodidact.rewards.programs import Programmed

TASK = Task("Double.", examples=(Demonstration("ab", "ab ab"),))
SIGNS = Task("Sign.", labels=("plus", "minus"))


def answered(*texts: str, wanted: str | None = "ab ab") -> list[Answered]:
    return [Answered("ab", "ab>", text, wanted) for text in texts]


@pytest.mark.parametrize(
    ("name", "texts", "expected"),
    [
        ("checker", ["ab ab", " ab  ab", "ab", ""], [1, 1, 0, 0]),
        ("rouge", ["ab ab", "ab", "", "cd"], [1, 2 / 3, 0, 0]),
        ("length:4", ["", "abcd", "abcdef", "abcdefgh", "abcdefghi"], [0, 1, 0.5, 0, 0]),
        ("matches:[ab]+( x)?", ["ab", "ab x", "abc", ""], [1, 1, 0, 0]),
        ("json", ['{"a": 1}', "[1,", "", "3"], [1, 0, 0, 1]),
        ("different", ["ab", "ab", "cd"], [0.5, 0.5, 1]),
        ("different", ["ab"], [0]),
        ("novelty", ["ab", "cd", "ab", "ab"], [1, 1, 2**-0.5, 3**-0.5]),
        ("checker + 0.5*length:4 + -2*json", ["ab ab", "3"], [1 + 0.375, 0.5 - 2]),
    ],
)
def test_each_reward_says_what_it_promises(name, texts, expected):
    found, reasons = rewarded(named(name, TASK), answered(*texts))
    assert found.tolist() == pytest.approx(expected)
    assert not reasons


def test_a_label_is_one_of_the_tasks():
    assert rewarded(named("label", SIGNS), answered("plus", "plus.", ""))[0].tolist() == [1, 0, 0]


def test_only_rewards_that_compare_want_outputs_alone_or_within_a_sum():
    assert named("checker", TASK).wants_outputs
    assert named("length:3 + 0.1*rouge", TASK).wants_outputs
    assert not named("length:3 + novelty", TASK).wants_outputs


PROGRAM = """
import time
def reward(given, answer, wanted):
    if answer == "raise":
        raise KeyError("no such thing")
    if answer == "none":
        return None
    if answer == "text":
        return "good"
    if answer == "nan":
        return float("nan")
    if answer == "infinite":
        return float("inf")
    while answer == "slow":
        try:
            time.sleep(0.01)
        except Exception:
            pass
    return len(answer) + len(given) + len(wanted or "")
"""


def test_a_program_that_fails_is_left_out_and_counted_with_the_reason_and_never_taken_for_zero(tmp_path):
    (tmp_path / "mine.py").write_text(PROGRAM)
    reward = named(f"{tmp_path}/mine.py:reward", TASK, seconds=0.05)
    started = time.monotonic()
    found, reasons = rewarded(reward, answered("raise", "none", "text", "nan", "infinite", "slow", "xyz"))
    assert time.monotonic() - started < 2
    assert [math.isnan(one) for one in found] == [True] * 6 + [False]
    assert found[-1] == 3 + 2 + 5
    assert reasons == Counter(
        {
            "KeyError: 'no such thing'": 1,
            "the function gave None": 1,
            "the function gave str, no number": 1,
            "the reward is no finite number": 2,
            "the function took more than 0.05 s": 1,
        }
    )


def test_a_sum_is_unknown_where_a_part_of_it_is():
    parts = named("checker + novelty", TASK)
    parts.parts[1] = Programmed(lambda given, answer, wanted: None if answer == "ab" else 1.0)
    found, reasons = rewarded(parts, answered("ab", "ab ab"))
    assert math.isnan(found[0])
    assert found[1] == 2
    assert reasons == {"the function gave None": 1}


def test_what_novelty_has_counted_goes_into_checkpoints_and_comes_back():
    first, second = named("novelty", TASK), named("novelty", TASK)
    rewarded(first, answered("ab", "ab"))
    second.load_state_dict(first.state_dict())
    assert rewarded(second, answered("ab"))[0][0] == pytest.approx(3**-0.5)


def test_a_model_that_scores_is_a_reward_and_its_weights_enter_no_checkpoint(tmp_path):
    lm = tiny_lm("ab>", width=16, depth=1)
    LanguageModel(lm).save(tmp_path / "rm")
    reward = named(str(tmp_path / "rm"), TASK)
    found, _ = rewarded(reward, answered("ab", "b"))
    assert found.tolist() == pytest.approx([one.total for one in lm.score(["ab>"] * 2, ["ab", "b"])])
    assert not reward.state_dict()
    assert not list(reward.parameters())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cheker", "unknown reward 'cheker'; did you mean 'checker'"),
        ("length", "length:40"),
        ("length:x", "needs a number of characters"),
        ("length:0", "at least 1 character"),
        ("matches:(", "is no regular expression"),
        ("label", "needs a task with labels"),
    ],
)
def test_names_that_are_none_are_refused_with_what_would_do(name, said):
    with pytest.raises(ValueError, match=said.replace("(", r"\(")):
        named(name, TASK)


def test_files_and_runs_that_do_not_exist_are_said_and_the_nearest_function_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such file: none\.py"):
        named("none.py:reward", TASK)
    with pytest.raises(FileNotFoundError, match="no such run: runs/none"):
        named("runs/none", TASK)
    (tmp_path / "mine.py").write_text(PROGRAM)
    with pytest.raises(ValueError, match="did you mean 'reward'"):
        named(f"{tmp_path}/mine.py:rewrd", TASK)


def test_a_function_outside_the_main_thread_is_left_out_where_it_came_too_late():
    from threading import Thread

    slow = Programmed(lambda given, answer, wanted: time.sleep(0.03) or 1.0, seconds=0.01)
    found = []
    thread = Thread(target=lambda: found.append(rewarded(slow, answered("ab"))))
    thread.start()
    thread.join()
    assert found[0][1] == {"the function took more than 0.01 s": 1}
    assert torch.isnan(torch.from_numpy(found[0][0])).all()
