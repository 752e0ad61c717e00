"""From what a user writes to a reward: ``checker``, ``checker + 0.1*length:40``, ``mine.py:reward``, ``runs/rm``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from autodidact.catalog import unknown
from autodidact.lm.local import LocalLM
from autodidact.lm.program_tests import ProgramTests
from autodidact.lm.task import PROGRAM, Task
from autodidact.rewards.discriminator import NAME as DISCRIMINATOR
from autodidact.rewards.discriminator import discriminator
from autodidact.rewards.learned import Learned
from autodidact.rewards.passes_tests import PassesTests
from autodidact.rewards.programs import Programmed
from autodidact.rewards.reward import Reward, Weighted
from autodidact.rewards.rules import Checked, Different, IsJSON, Labelled, Length, Matches, Novelty, Overlap

PLAIN: Mapping[str, Callable[[Task], Reward]] = {
    "checker": lambda task: PassesTests(task) if task.checked_by == PROGRAM else Checked(task),
    "rouge": lambda _: Overlap(),
    "label": Labelled,
    "json": lambda _: IsJSON(),
    "novelty": lambda _: Novelty(),
    "different": lambda _: Different(),
}
WITH_VALUE = ("length", "matches", PROGRAM)
"""Rewards that a value follows after a colon."""
_LISTED = (*PLAIN, DISCRIMINATOR, *(f"{one}:..." for one in WITH_VALUE), "FILE.py:FUNCTION", "RUN_FOLDER")
FACTOR = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*\*\s*(.+)")


def named(text: str, task: Task, *, seconds: float = 1.0, lm: LocalLM | None = None) -> Reward:
    """The reward that a text names.

    "checker": the task's checker against the outputs of its examples; "rouge": overlap with these; "label": it is one
    of the labels; "length:N": no longer than N characters; "matches:REGEX"; "json"; "novelty" and "different": see
    `rewards.rules`; "program:FILE.py": it is a program that passes the tests in a file, see `ProgramTests`;
    "discriminator": a network that learns to tell the model's answers from the wanted ones, see
    `Discriminator`, with arguments as in ``discriminator?every=2&alone=20`` where they are to be others than its own;
    ``file.py:function``: a program of one's own, see `Programmed`; the folder of a run whose model can score. Several
    are added up with " + " between them, each with a factor before it if need be: ``checker + 0.2*length:30``.

    Parameters
    ----------
    seconds : that a function of one's own, or a program with its tests, may take for one answer.
    lm : the model that is trained, whose tokens a discriminator reads.

    Raises
    ------
    ValueError : no such reward, or one that the task cannot have.
    FileNotFoundError : no such file or folder.
    """
    parts = [_part(part, task, seconds, lm) for part in text.split(" + ")]
    return parts[0][1] if len(parts) == 1 and parts[0][0] == 1 else Weighted(parts)


def _part(text: str, task: Task, seconds: float, lm: LocalLM | None) -> tuple[float, Reward]:
    found = FACTOR.fullmatch(text)
    weight, name = (float(found[1]), found[2].strip()) if found else (1.0, text.strip())
    return weight, _one(name, task, seconds, lm)


def _one(name: str, task: Task, seconds: float, lm: LocalLM | None) -> Reward:
    kind, _, value = name.partition(":")
    if name in PLAIN:
        return PLAIN[name](task)
    if kind == "length":
        if not value.isdecimal():
            raise ValueError(f"'{name}' needs a number of characters: length:40")
        return Length(int(value))
    if kind == "matches":
        return Matches(value)
    if kind == PROGRAM:
        return _tested(value, task, seconds)
    if name.partition("?")[0] == DISCRIMINATOR:
        if lm is None:
            raise ValueError(f"the reward '{DISCRIMINATOR}' is learned beside a model whose tokens it reads")
        return discriminator(name.partition("?")[2], lm, task)
    if ".py:" in name:
        return Programmed.load(name, seconds=seconds)
    if Path(name).is_dir():
        return Learned.load(name)
    if "/" in name:
        raise FileNotFoundError(f"no such run: {name}")
    raise unknown("reward", name, _LISTED)


def _tested(path: str, task: Task, seconds: float) -> PassesTests:
    if not path:
        raise ValueError(f"the reward '{PROGRAM}' names a file of tests: {PROGRAM}:tests.py")
    tests = ProgramTests.read(path, seconds=seconds)
    first = next(iter(task.examples), None)
    tests.must_tell(*((first.input, first.output) if first else task.inputs[:1]))
    return PassesTests(replace(task, checker=tests))
