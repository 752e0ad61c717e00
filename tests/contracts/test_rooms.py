"""Imports go down the list of rooms, never up, and never sideways between methods."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import autodidact
from autodidact.catalog import cards

ROOT = Path(autodidact.__file__).parent
# From the top: a room may import itself, and rooms of a higher number.
LEVELS = [
    ("cli",),
    ("verbs",),
    ("claims",),
    ("worlds",),
    ("compare", "report", "sklearn"),
    ("recipes",),
    ("evaluation",),
    ("training",),
    ("methods",),
    ("targets", "rollouts"),
    ("rewards",),
    ("encoders", "lm"),
    ("model",),
    ("heads",),
    ("objectives",),
    ("views", "measures", "schedules", "selection"),
    ("data",),
    ("catalog",),
    ("lean",),
]
LEVEL = {room: number for number, rooms in enumerate(LEVELS) for room in rooms}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("autodidact."):
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("autodidact."))


def room(module: str) -> str:
    return module.split(".")[1]


def test_no_room_imports_a_room_above_it() -> None:
    wrong = []
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[0] not in LEVEL:
            continue
        wrong += [
            f"{'/'.join(parts)} imports {name}"
            for name in imports(path)
            if room(name) in LEVEL and LEVEL[room(name)] < LEVEL[parts[0]]
        ]
    assert wrong == []


def test_no_method_imports_another_method() -> None:
    files = {module(path): path for path in (ROOT / "methods").rglob("*.py")}
    papers = {name for name, path in files.items() if "\nCARD" in path.read_text()}
    wrong = [f"{name} imports {other}" for name in papers for other in imports(files[name]) if other in papers - {name}]
    assert len(papers) >= 6
    assert wrong == []


def test_no_method_needs_what_only_a_generator_knows() -> None:
    wrong = [
        f"{card.name} needs {name}" for card in cards().values() for name, _ in card.needs if name.startswith("truth_")
    ]
    assert wrong == []


def module(path: Path) -> str:
    return ".".join(("autodidact", *path.relative_to(ROOT).with_suffix("").parts))
