"""Programs that are right if they pass tests: a model's text and a person's tests, run together in the sandbox."""

from __future__ import annotations

import json
import os
import re
import secrets
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autodidact.lm.sandbox import Ran

POSIX = os.name == "posix"
_FENCED = re.compile(
    r"^[ \t]*(?P<fence>`{3,}|~{3,})[ \t]*(?P<language>\w*)[^\n`]*\n(?P<code>.*?)(?:^[ \t]*(?P=fence)|\Z)",
    re.DOTALL | re.MULTILINE,
)
_PYTHON = ("python", "python3", "py")
_PASSES = """
import json, os, sys, types

def check():
    order = json.loads(sys.stdin.read())
    answer = sys.modules["answer"] = types.ModuleType("answer")
    try:
        code = compile(order["answer"], "answer.py", "exec")
    except (SyntaxError, ValueError):
        code = compile(order["block"], "answer.py", "exec")
    exec(code, answer.__dict__)
    scope = {**answer.__dict__, "__name__": "tests", "given": order["given"], "wanted": order["wanted"]}
    exec(compile(order["tests"], "tests.py", "exec"), scope)
    for name, value in list(scope.items()):
        own = isinstance(value, types.FunctionType) and answer.__dict__.get(name) is not value
        if own and name.startswith("test_") and value() is not None:
            raise TypeError(f"{name} gives something back; a test asserts")
    os.write(1, ("\\n" + order["passed"] + "\\n").encode())

check()
"""
"""What the process runs. All that it is told comes by its standard input, so that no file holds it."""


@dataclass(frozen=True)
class ProgramTests:
    """Tests in Python, which an answer that is a program passes or does not.

    The answer is run first, as a module called ``answer``. Then the tests are run, and know its names as if they stood
    below it, and two more: ``given``, the input, and ``wanted``, the output that the task has for it, both texts, empty
    where there is none. Then the functions of the tests whose names begin with ``test_`` are called, without arguments;
    classes are not looked at. An answer is right if nothing of all that raises an exception and no such function gives
    something back. One that ends the process before, also with status 0, is wrong.

    An answer that is Python as a whole is taken as a whole; of another the first fenced block (three backticks) that is
    marked as Python, or else the first one. It is a program, not the rest of one.

    It runs in a process of its own, see `run_program` for all that it cannot do there. It has the standard library and
    nothing to read on its standard input; what it writes, up to 64 kB, is not looked at. One that takes too long, too
    much memory, or writes more is wrong. An answer that searches its own process for the tests can make them pass;
    where a model is rewarded for passing them, read what it answers.

    Parameters
    ----------
    tests : Python.
    seconds : of the clock that an answer has with its tests, above 0.
    memory_mb : address space, whole and from 64.

    Raises
    ------
    ValueError : the tests are no Python, or a number is out of its range.
    """

    tests: str
    seconds: float = 2.0
    memory_mb: int = 256

    def __post_init__(self) -> None:
        if not _is_number(self.seconds, float) or not 0 < self.seconds < float("inf"):
            raise ValueError(f"programs have seconds above 0, got {self.seconds!r}")
        if not _is_number(self.memory_mb) or self.memory_mb < 64:
            raise ValueError(f"programs have a memory_mb of 64 or more, got {self.memory_mb!r}")
        try:
            compile(self.tests, "tests.py", "exec", dont_inherit=True)
        except SyntaxError as wrong:
            raise ValueError(f"the tests are no Python, line {wrong.lineno}: {wrong.msg}") from wrong

    @classmethod
    def read(cls, path: str | Path, **limits: Any) -> ProgramTests:
        """From a file, with seconds and memory_mb where they are not those above.

        Raises
        ------
        FileNotFoundError : there is no such file.
        ValueError : it holds no Python, or a limit is out of its range.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"no such file of tests: {path}")
        try:
            return cls(path.read_text(encoding="utf-8"), **limits)
        except ValueError as wrong:
            raise ValueError(f"{path.name}: {wrong}") from wrong

    def must_tell(self, given: str = "", wanted: str = "") -> None:
        """Find out, before a model is asked for anything, that programs can be run here and that tests tell them apart.

        Warns where this machine's kernel does not hold all that `guarantees` lists.

        Raises
        ------
        ValueError : no program can be run, or an empty one passes.
        """
        try:
            empty = self.passed("", given, wanted)
            held = _sandbox().guarantees()
        except RuntimeError as wrong:
            why = " ".join(str(wrong).split())
            raise ValueError(f"no program that a model writes can be run here: {why}") from wrong
        if empty:
            raise ValueError("an empty program passes the tests; does anything call them?")
        if loose := [name for name, by in held.items() if by != "kernel"]:
            warnings.warn(
                "programs that the model writes are run here, and the kernel of this machine does not hold all of them "
                f"back: {', '.join(loose)} (autodidact.lm.sandbox.guarantees)",
                stacklevel=2,
            )

    def run(self, answer: str, given: str = "", wanted: str = "") -> Ran:
        """What becomes of an answer: "ok" where it passes; else what it and the tests wrote says why.

        Raises
        ------
        RuntimeError : the process could not be started or confined; nothing was run.
        """
        passed = secrets.token_hex(16)
        block = _block(answer)
        order = {"answer": answer, "block": block, "tests": self.tests, "given": given, "wanted": wanted}
        told_it = json.dumps({**order, "passed": passed})
        ran: Ran = _sandbox().run_program(_PASSES, stdin=told_it, seconds=self.seconds, memory_mb=self.memory_mb)
        before, told, after = ran.stdout.partition(f"\n{passed}\n")
        # Without this line it ended before the tests did, whatever its status says.
        return replace(ran, stdout=before + after, outcome="error" if ran.outcome == "ok" and not told else ran.outcome)

    def passed(self, answer: str, given: str = "", wanted: str = "") -> bool:
        """Whether an answer passes; see `run`."""
        return self.run(answer, given, wanted).outcome == "ok"


def _sandbox() -> ModuleType:
    # Of a task nothing else needs it, and it needs what only POSIX systems have.
    if not POSIX:
        raise RuntimeError(f"programs are confined on POSIX systems alone, this one is {os.name}")
    from autodidact.lm import sandbox

    return sandbox


def _block(answer: str) -> str:
    """The fenced block of an answer that is its program; the answer itself where it has none."""
    found = list(_FENCED.finditer(answer))
    marked = [one for one in found if one["language"].lower() in _PYTHON]
    return dedent((marked or found)[0]["code"]) if found else answer


def _is_number(value: object, *kinds: type) -> bool:
    return isinstance(value, (int, *kinds)) and not isinstance(value, bool)
