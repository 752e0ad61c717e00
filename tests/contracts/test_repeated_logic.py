"""No six lines of logic stand in two files of methods or recipes: what two share has a name and a room below them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import autodidact

LINES = 6
"""So many lines, one after another and alike to the letter but for their indent, are too many."""
FORWARDED = re.compile(r"(\w+)(=\1)?,")
"""An argument that is passed on under its own name, alone on its line."""
PUNCTUATION = re.compile(r"\W*")

Line = tuple[int, str]


def spans(tree: ast.Module) -> Iterator[tuple[int, int]]:
    """First and last line of all that is no logic: docstrings, imports, cards, and headers with their signatures."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            first = min(part.lineno for part in (node, *node.decorator_list))
            yield first, node.body[0].lineno - 1
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_card = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "CARD"
        if is_text or is_card or isinstance(node, ast.Import | ast.ImportFrom):
            yield node.lineno, node.end_lineno or node.lineno


def functions(text: str) -> Iterator[list[Line]]:
    """The logic of a file, function by function: (line number, what it says without its indent)."""
    tree = ast.parse(text)
    left_out = {number for first, last in spans(tree) for number in range(first, last + 1)}
    starts = sorted(node.lineno for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    said = [(number, line.split("  #")[0].strip()) for number, line in enumerate(text.splitlines(), start=1)]
    logic = [
        (number, line)
        for number, line in said
        if number not in left_out
        and not line.startswith("#")
        and not PUNCTUATION.fullmatch(line)
        and not FORWARDED.fullmatch(line)
    ]
    for start, end in pairwise([0, *starts, len(said) + 1]):
        yield [line for line in logic if start <= line[0] < end]


def repeated(files: Sequence[Path]) -> list[str]:
    """Where lines begin that stand in an earlier file already: "this.py:12 is that.py:34"."""
    seen: dict[tuple[str, ...], tuple[Path, int]] = {}
    found = []
    for path in files:
        for lines in functions(path.read_text()):
            for at in range(len(lines) - LINES + 1):
                number, _ = lines[at]
                first, line = seen.setdefault(tuple(said for _, said in lines[at : at + LINES]), (path, number))
                if first != path:
                    found.append(f"{path.name}:{number} is {first.name}:{line}")
    return found


def test_what_two_methods_share_stands_in_one_place() -> None:
    root = Path(autodidact.__file__).parent
    files = sorted(path for room in ("methods", "recipes") for path in (root / room).rglob("*.py"))
    assert len(files) > 50
    assert repeated(files) == []


FIRST = '''"""One file."""

import torch


class First:
    """Says what it does."""

    def __init__(self, width: int, depth: int, temperature: float) -> None:
        """Another docstring."""
        if width < 1 or depth < 1:
            raise ValueError("width and depth are at least 1")
        # Why this is so.
        self.temperature = temperature
        self.layers = [
            torch.nn.Linear(width, width)
            for _ in range(depth)
        ]
        self.scale = width**-0.5
'''
SECOND = """from torch import nn


def other(
    width: int,
    depth: int,
) -> float:
    if width < 1 or depth < 1:
        raise ValueError("width and depth are at least 1")

    self.temperature = temperature
    self.layers = [
        torch.nn.Linear(width, width)  # As wide as before.
        for _ in range(depth)
    ]
    return depth
"""
CALL = (
    "def {name}(a, b, c, d, e, f):\n    return {name}s(\n"
    + "".join(f"        {x}={x},\n" for x in "abcdef")
    + "    )\n"
)


def planted(folder: Path, first: str, second: str) -> list[str]:
    files = [folder / "first.py", folder / "second.py"]
    for path, text in zip(files, (first, second), strict=True):
        path.write_text(text)
    return repeated(files)


def test_six_planted_lines_are_found_whatever_comments_and_signatures_stand_between_them(tmp_path: Path) -> None:
    assert planted(tmp_path, FIRST, SECOND) == ["second.py:8 is first.py:11"]


def test_five_lines_and_lists_of_forwarded_arguments_are_no_logic_in_two_places(tmp_path: Path) -> None:
    assert planted(tmp_path, FIRST, SECOND.replace("self.temperature = temperature", "")) == []
    assert planted(tmp_path, CALL.format(name="one"), CALL.format(name="two")) == []
    assert planted(tmp_path, FIRST, FIRST.split("        if")[0] + "        pass\n") == []
